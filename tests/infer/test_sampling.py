"""The filters equal transformers' logits processors; a draw follows the probabilities (I6)."""

import math

import pytest
import torch
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from puna.errors import RequestError, StateError
from puna.infer import filters
from puna.infer.sampling import SamplingConfig, sample


def logits_of(*, rows: int = 3, vocab: int = 211, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_top_p_matches_transformers(p: float) -> None:
    logits = logits_of()
    torch.testing.assert_close(
        filters.keep_top_p(logits, p), TopPLogitsWarper(top_p=p)(None, logits)
    )


@pytest.mark.parametrize("p", [0.3, 0.9, 0.999])
def test_top_p_of_a_large_flat_vocabulary_matches_transformers(p: float) -> None:
    """Flat rows need more candidates than are put in order at first, peaked rows fewer."""
    logits = logits_of(vocab=5000) * torch.tensor([[0.01], [0.3], [2.0]])
    torch.testing.assert_close(
        filters.keep_top_p(logits, p), TopPLogitsWarper(top_p=p)(None, logits)
    )


def test_top_p_keeps_the_lowest_ids_of_a_tie_at_its_edge() -> None:
    """Eight equal tokens: before the fifth stands 0.5, before the sixth 0.625."""
    kept = filters.keep_top_p(torch.zeros(1, 8), 0.6).isfinite()
    assert kept.tolist() == [[True] * 5 + [False] * 3]


@pytest.mark.parametrize("k", [1, 2, 50, 1000])
def test_top_k_matches_transformers(k: int) -> None:
    logits = logits_of()
    torch.testing.assert_close(
        filters.keep_top_k(logits, k), TopKLogitsWarper(top_k=k)(None, logits)
    )


@pytest.mark.parametrize("p", [0.01, 0.3, 1.0])
def test_min_p_matches_transformers(p: float) -> None:
    logits = logits_of()
    torch.testing.assert_close(
        filters.keep_min_p(logits, p), MinPLogitsWarper(min_p=p)(None, logits)
    )


@pytest.mark.parametrize("penalty", [0.5, 1.3])
def test_repetition_penalty_matches_transformers(penalty: float) -> None:
    logits = logits_of()
    ids = torch.tensor([[3, 5, 3], [7, 8, 9], [0, 1, 2]])
    seen = torch.zeros_like(logits, dtype=torch.bool).scatter(1, ids, True)
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(ids, logits.clone())
    torch.testing.assert_close(filters.penalize(logits, seen, penalty), theirs)


def test_the_filters_apply_in_transformers_order() -> None:
    logits = logits_of() / 0.7
    config = SamplingConfig(temperature=0.7, top_k=40, top_p=0.8, min_p=0.05)
    theirs = TopKLogitsWarper(40)(None, logits)
    theirs = MinPLogitsWarper(0.05)(None, TopPLogitsWarper(0.8)(None, theirs))
    torch.testing.assert_close(filters.keep_likely(logits, config), theirs)


def test_top_p_of_hand_numbers_keeps_the_token_that_crosses_p() -> None:
    """Masses 0.5, 0.25, 0.25: 0.75 stand before the third; p = 0.7 drops it, 0.76 keeps it."""
    logits = torch.tensor([[0.5, 0.25, 0.25]]).log()
    assert filters.keep_top_p(logits, 0.7).isfinite().tolist() == [[True, True, False]]
    assert filters.keep_top_p(logits, 0.76).isfinite().tolist() == [[True, True, True]]


def test_ties_go_to_the_lowest_id() -> None:
    logits = torch.tensor([[0.0, 2.0, 2.0, 1.0], [5.0, 5.0, 5.0, 5.0]])
    assert filters.most_likely(logits).tolist() == [1, 0]
    assert filters.keep_top_p(logits, 0.0).isfinite().tolist() == [
        [False, True, False, False],
        [True, False, False, False],
    ]


def test_draws_follow_the_probabilities() -> None:
    """20,000 draws of (0.1, 0, 0.6, 0.3): within five standard deviations, 0 never."""
    shares = torch.tensor([0.1, 0.0, 0.6, 0.3])
    n = 20_000
    uniforms = torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = filters.draw(shares.log().expand(n, 4), uniforms)
    found = torch.bincount(drawn, minlength=4) / n
    assert found[1] == 0
    deviation = (shares * (1 - shares) / n).sqrt()
    assert ((found - shares).abs() <= 5 * deviation).all()


def test_a_fixed_seed_gives_a_fixed_vector() -> None:
    """A uniform number u takes the first id whose cumulated probability exceeds u."""
    config = SamplingConfig(temperature=1.0, top_p=None, seed=11)
    logits = torch.zeros(1, 10)
    ours = [sample(logits, [config], [numbers])[0] for numbers in [config.generator()] * 20]
    generator = torch.Generator().manual_seed(11)
    numbers = [torch.rand(1, generator=generator, dtype=torch.float64).item() for _ in range(20)]
    assert ours == [math.floor(10 * u) for u in numbers]


def test_a_row_draws_the_same_whatever_its_batch_mates() -> None:
    logits = logits_of(rows=4)
    configs = [
        SamplingConfig(temperature=1.2, seed=1),
        SamplingConfig(temperature=0),
        SamplingConfig(temperature=1.2, top_k=5, seed=3),
        SamplingConfig(temperature=1.2, seed=1),
    ]
    together = sample(logits, configs, [c.generator() for c in configs])
    alone = [sample(logits[i : i + 1], [c], [c.generator()]) for i, c in enumerate(configs)]
    assert [[token] for token in together] == alone


def test_a_seed_repeats_and_no_seed_varies() -> None:
    def draws(seed: int | None) -> list[int]:
        config = SamplingConfig(temperature=2.0, top_p=None, seed=seed)
        generator = config.generator()
        return [sample(logits_of(rows=1), [config], [generator])[0] for _ in range(30)]

    assert draws(4) == draws(4)
    assert draws(4) != draws(5)
    assert draws(None) != draws(None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1), ("temperature", math.nan), ("temperature", math.inf),
        ("top_k", 0), ("top_k", -1), ("top_k", 2.5), ("top_p", 1.5), ("top_p", -0.1),
        ("min_p", 2), ("repetition_penalty", 0), ("seed", -1), ("top_k", True), ("seed", "x"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(RequestError, match=f"{name}={value!r} was given"):
        SamplingConfig(**{name: value})


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_numbers_are_an_error(temperature: float) -> None:
    config = SamplingConfig(temperature=temperature, seed=0)
    with pytest.raises(StateError, match="not numbers"):
        sample(torch.full((1, 4), math.nan), [config], [config.generator()])
