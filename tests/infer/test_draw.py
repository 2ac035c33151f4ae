import contextlib
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.infer import draw
from puna.infer.draw import draw_one
from puna.infer.sampling import SamplingConfig, sample
from puna.ops import native

WITHOUT_KERNELS = mock.patch.object(native, "level", lambda: None)


@given(
    seed=st.integers(0, 10_000),
    spread=st.sampled_from([0.0, 0.5, 3.0, 20.0]),
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
    top_p=st.sampled_from([None, 0.0, 0.3, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([None, 0.05, 0.5, 1.0]),
    top_k=st.sampled_from([None, 1, 7]),
)
@settings(max_examples=300)
def test_the_same_number_draws_the_same_token_as_the_whole_vocabulary(
    seed: int, spread: float, temperature: float, top_p: float | None, min_p: float | None,
    top_k: int | None,
) -> None:  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    scores = (torch.randn(211, generator=generator) * spread).round(decimals=1)  # with many ties
    config = SamplingConfig(
        temperature=temperature, top_p=top_p, min_p=min_p, top_k=top_k, seed=seed
    )
    uniform = config.generator().next()
    with WITHOUT_KERNELS:
        expected = sample(scores[None], [config], [config.generator()])[0]
        assert draw_one(scores, config, uniform) == expected


def test_rows_that_many_tokens_share_are_filtered_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SamplingConfig(temperature=1.0, top_p=0.9, seed=1)
    scores = torch.randn(211, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(native, "level", lambda: None)
    few = [draw_one(scores, config, place / 50) for place in range(50)]
    monkeypatch.setattr(draw, "MOST", 3)
    assert [draw_one(scores, config, place / 50) for place in range(50)] == few


@pytest.mark.parametrize("is_native", [True, False])
def test_a_score_that_is_no_number_is_what_is_drawn(is_native: bool) -> None:
    config, scores = SamplingConfig(temperature=1.0, top_p=0.9), torch.zeros(9)
    scores[4] = torch.nan
    with contextlib.nullcontext() if is_native else WITHOUT_KERNELS:
        assert draw_one(scores, config, 0.5) == 4
        assert draw_one(torch.full((9,), torch.nan), config, 0.5) == 0
