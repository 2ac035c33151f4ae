"""The native choice of a token is that of torch, up to sums of float32."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.errors import StateError
from puna.infer.filters import chosen_by_torch
from puna.infer.sampling import SamplingConfig, sample
from puna.ops import choose as choosing
from puna.ops import native
from puna.ops.choose import Choice, choose

LEVELS = native.levels()
pytestmark = pytest.mark.skipif(not LEVELS, reason="puna was installed without a compiler")
EVERY_LEVEL = pytest.mark.parametrize("level", LEVELS)
BOUND = 2e-6  # as puna.ops.choose says, of the number drawn and of the mass that top-p keeps
HIGHEST = 1 - 2.0**-53  # below 1, as torch.rand gives it


def chosen(scores: torch.Tensor, config: SamplingConfig, uniform: float, level: str) -> int:
    ids = choose(scores[None].contiguous().numpy(), [config.choice(uniform)], level=level)
    assert ids is not None
    return int(ids[0])


def torch_chooses(scores: torch.Tensor, config: SamplingConfig, uniform: float) -> int:
    return int(chosen_by_torch(scores[None], [config], [uniform])[0])


def is_near(found: int, scores: torch.Tensor, config: SamplingConfig, uniform: float) -> bool:
    """Whether torch chooses the token, too, by a number and a mass within the bound.

    Unlikely tokens can be so light that many lie between two numbers that are as near as this.
    """
    for shift in (-BOUND, 0.0, BOUND):
        p = config.top_p
        if p is not None and p < 1:
            p = min(max(p + shift, 0.0), 1.0)
        other = SamplingConfig(
            temperature=config.temperature, top_k=config.top_k, top_p=p, min_p=config.min_p
        )
        low = torch_chooses(scores, other, max(uniform - BOUND, 0.0))
        high = torch_chooses(scores, other, min(uniform + BOUND, HIGHEST))
        if low <= found <= high:
            return True
    return False


@EVERY_LEVEL
@given(
    seed=st.integers(0, 10_000),
    vocab=st.sampled_from([1, 2, 15, 63, 64, 65, 1500]),
    spread=st.sampled_from([0.0, 0.5, 3.0, 20.0]),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    top_p=st.sampled_from([None, 0.0, 0.3, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([None, 0.05, 0.5, 1.0]),
    top_k=st.sampled_from([None, 1, 7, 300]),
    has_ties=st.booleans(),
    uniform=st.sampled_from([0.0, 0.25, 0.613, 0.9999, HIGHEST]),
)
@settings(max_examples=300, deadline=None)
def test_the_same_number_chooses_the_same_token(
    level: str, seed: int, vocab: int, spread: float, temperature: float, top_p: float | None,
    min_p: float | None, top_k: int | None, has_ties: bool, uniform: float,
) -> None:  # fmt: skip
    scores = torch.randn(vocab, generator=torch.Generator().manual_seed(seed)) * spread
    if has_ties:
        scores = scores.round(decimals=1)
    config = SamplingConfig(temperature=temperature, top_p=top_p, min_p=min_p, top_k=top_k)
    found = chosen(scores, config, uniform, level)
    is_same = found == torch_chooses(scores, config, uniform)
    assert is_same or is_near(found, scores, config, uniform)


@EVERY_LEVEL
@pytest.mark.parametrize("spread", [0.0, 1.0, 4.0])
@pytest.mark.parametrize(
    "config",
    [
        SamplingConfig(temperature=0.6, top_p=0.9),
        SamplingConfig(temperature=1.0, top_p=None),
        SamplingConfig(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05),
        SamplingConfig(temperature=1.0, top_k=5000, top_p=None),
        SamplingConfig(temperature=0),
    ],
)
def test_a_vocabulary_of_llama_3_is_chosen_from_alike(
    level: str, spread: float, config: SamplingConfig
) -> None:
    scores = torch.randn(128_256, generator=torch.Generator().manual_seed(3)) * spread
    for uniform in (0.0, 0.37, HIGHEST):
        found = chosen(scores, config, uniform, level)
        is_same = found == torch_chooses(scores, config, uniform)
        assert is_same or is_near(found, scores, config, uniform)


@EVERY_LEVEL
def test_tokens_that_a_constraint_forbids_are_never_chosen(level: str) -> None:
    scores = torch.full((700,), -torch.inf)
    scores[[3, 299, 650]] = torch.tensor([1.0, 2.0, 1.5])
    for config in (
        SamplingConfig(temperature=0),
        SamplingConfig(temperature=5.0, top_p=None),
        SamplingConfig(temperature=1.0, top_p=0.999),
        SamplingConfig(temperature=1.0, top_k=5),
    ):
        numbers = (0.0, 0.2, 0.5, 0.9, HIGHEST)
        assert {chosen(scores, config, u, level) for u in numbers} <= {3, 299, 650}
    wide = SamplingConfig(temperature=5.0, top_p=None)
    assert [chosen(scores, wide, u, level) for u in (0.0, 0.5, HIGHEST)] == [3, 299, 650]


@EVERY_LEVEL
@pytest.mark.parametrize("trouble", [torch.nan, torch.inf])
@pytest.mark.parametrize("place", [0, 17, 256, 699])
def test_logits_that_are_no_numbers_are_found(level: str, trouble: float, place: int) -> None:
    scores = torch.randn(700, generator=torch.Generator().manual_seed(1))
    scores[place] = trouble
    for config in (SamplingConfig(temperature=0), SamplingConfig(temperature=1.0, top_k=5)):
        assert chosen(scores, config, 0.5, level) == -1
        assert chosen(torch.full((700,), -torch.inf), config, 0.5, level) == -1
        with pytest.raises(StateError, match="not numbers"):
            sample(scores[None], [config], [config.generator()])


@EVERY_LEVEL
def test_a_rows_token_does_not_depend_on_the_others(level: str) -> None:
    rows = torch.randn(5, 3000, generator=torch.Generator().manual_seed(2)) * 2
    choices = [
        Choice(temperature=0.0),
        Choice(temperature=0.7, top_p=0.9, uniform=0.3),
        Choice(temperature=1.0, uniform=0.8),
        Choice(temperature=1.0, top_k=20, uniform=0.1),
        Choice(temperature=1.0, min_p=0.1, uniform=0.6),
    ]
    together = choose(rows.numpy(), choices, level=level)
    alone = [choose(rows[i : i + 1].numpy(), choices[i : i + 1], level=level) for i in range(5)]
    assert together is not None
    assert together.tolist() == [int(ids[0]) for ids in alone if ids is not None]


def test_a_batch_samples_alike_with_and_without_the_kernels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logits = torch.randn(4, 3000, generator=torch.Generator().manual_seed(5)) * 3
    seen = np.zeros((4, 3000), dtype=np.bool_)
    seen[:, ::7] = True
    configs = [
        SamplingConfig(temperature=0.8, seed=1),
        SamplingConfig(temperature=0, repetition_penalty=1.4),
        SamplingConfig(temperature=1.0, top_k=50, repetition_penalty=1.2, seed=3),
        SamplingConfig(temperature=1.0, min_p=0.02, seed=4),
    ]

    def drawn() -> list[list[int]]:
        generators = [config.generator() for config in configs]
        return [sample(logits, configs, generators, seen) for _ in range(20)]

    ours = drawn()
    monkeypatch.setattr(choosing.native, "level", lambda: None)
    assert drawn() == ours
