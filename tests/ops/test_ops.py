"""Norm, rotary positions, attention and loss against formulas and golden numbers."""

import json
import math

import pytest
import torch

from puna.ops.attention import (
    attend,
    attend_documents,
    attend_reference,
    cache_mask,
    causal_mask,
    document_mask,
    document_spans,
)
from puna.ops.loss import IGNORED, cross_entropy_sum
from puna.ops.norm import rms_norm
from puna.ops.rope import RopeScaling, inverse_frequencies, rotate, rotation, scale_frequencies
from tests.testdata import testdata


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_rms_norm_casts_before_it_scales() -> None:
    x = torch.randn(3, 5, 16, generator=seeded(0)).bfloat16()
    weight = torch.randn(16, generator=seeded(1)).bfloat16()
    quotient = x.float() / (x.float().square().mean(-1, keepdim=True) + 1e-5).sqrt()
    expected = quotient.bfloat16() * weight
    assert rms_norm(x, weight, 1e-5).dtype == torch.bfloat16
    assert (rms_norm(x, weight, 1e-5).float() - expected.float()).abs().max() < 0.02


GOLDEN_8 = {  # E=128, theta=500,000, factor 8, original 8192: index to scaled frequency
    0: 1.0, 1: 8.146172339e-01, 16: 3.760603093e-02, 28: 3.211445995e-03, 29: 2.166570764e-03,
    30: 1.371893568e-03, 31: 8.567514129e-04, 32: 5.248461610e-04, 33: 3.126937504e-04,
    34: 1.785078128e-04, 35: 9.556212354e-05, 48: 6.647869871e-06, 63: 3.068925989e-07,
}  # fmt: skip
GOLDEN_32_64 = {  # E=64, factor 32: Llama 3.2 1B
    15: 1.290547928e-03, 16: 4.295567966e-04, 17: 9.708287803e-05, 31: 9.418306725e-08,
}  # fmt: skip
GOLDEN_32_128 = {29: 2.118406997e-03, 34: 9.708287803e-05, 63: 7.672314972e-08}  # Llama 3.2 3B


@pytest.mark.parametrize(
    ("width", "factor", "golden"),
    [(128, 8.0, GOLDEN_8), (64, 32.0, GOLDEN_32_64), (128, 32.0, GOLDEN_32_128)],
)
def test_scaled_frequencies_equal_the_golden_ones(
    width: int, factor: float, golden: dict[int, float]
) -> None:
    scaled = scale_frequencies(inverse_frequencies(width, 5e5), RopeScaling(factor=factor))
    for index, value in golden.items():
        assert scaled[index].item() == pytest.approx(value, rel=2e-6)


def test_the_bands_of_llama_31_are_29_kept_6_blended_29_divided() -> None:
    base = inverse_frequencies(128, 5e5)
    scaled = scale_frequencies(base, RopeScaling())
    kept = scaled == base
    divided = scaled == base / 8
    assert kept.tolist() == [True] * 29 + [False] * 35
    assert divided.tolist() == [False] * 35 + [True] * 29


def test_scaled_frequencies_equal_a_stored_table_with_other_parameters() -> None:
    stored = json.loads(testdata("reference/llama3_rope_inv_freq_hf.json").read_text())
    numbers = (
        next(v for v in stored.values() if isinstance(v, list))
        if isinstance(stored, dict)
        else stored
    )
    rule = RopeScaling(
        factor=10.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=2048
    )
    scaled = scale_frequencies(inverse_frequencies(2 * len(numbers), 1e4), rule)
    torch.testing.assert_close(scaled, torch.tensor(numbers), rtol=5e-5, atol=1e-9)


def test_rotation_depends_on_the_position_alone() -> None:
    freqs = inverse_frequencies(16, 1e4)
    long_cos, _ = rotation(torch.arange(5000)[None], freqs)
    short_cos, _ = rotation(torch.tensor([[257, 258, 4095]]), freqs)
    assert torch.equal(long_cos[0, [257, 258, 4095]], short_cos[0])
    assert not torch.equal(short_cos[0, 0], short_cos[0, 1])


def test_rotation_turns_pairs_by_the_angle() -> None:
    """Channel pair (i, i + E/2) as a complex number is multiplied by e^(i position freq)."""
    freqs = inverse_frequencies(8, 100.0)
    x = torch.randn(1, 6, 3, 8, generator=seeded(2), dtype=torch.float64).float()
    cos, sin = rotation(torch.arange(6)[None], freqs)
    turned = rotate(x, cos, sin)
    for t in range(6):
        for i in range(4):
            angle = t * freqs[i].item()
            before = complex(x[0, t, 1, i], x[0, t, 1, i + 4])
            after = before * complex(math.cos(angle), math.sin(angle))
            assert turned[0, t, 1, i].item() == pytest.approx(after.real, abs=1e-5)
            assert turned[0, t, 1, i + 4].item() == pytest.approx(after.imag, abs=1e-5)


@pytest.mark.parametrize(("heads", "kv_heads"), [(6, 6), (6, 2), (12, 4), (4, 1)])
def test_fused_attention_equals_the_formula(heads: int, kv_heads: int) -> None:
    q = torch.randn(2, 7, heads, 8, generator=seeded(3))
    k = torch.randn(2, 7, kv_heads, 8, generator=seeded(4))
    v = torch.randn(2, 7, kv_heads, 8, generator=seeded(5))
    causal = causal_mask(7)
    expected = attend_reference(q, k, v, mask=causal.expand(2, 7, 7))
    torch.testing.assert_close(attend(q, k, v, mask=None, causal=True), expected)
    torch.testing.assert_close(attend(q, k, v, mask=causal.expand(2, 7, 7)), expected)
    last = attend_reference(q[:, 6:], k, v, mask=torch.ones(2, 1, 7, dtype=torch.bool))
    torch.testing.assert_close(attend(q[:, 6:], k, v, mask=None), last)


def test_masks_say_who_sees_whom() -> None:
    documents = torch.tensor([[0, 0, 1, 1]])
    assert document_mask(documents)[0].int().tolist() == [
        [1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1],
    ]  # fmt: skip
    positions = torch.tensor([[1, 2], [0, 1]])
    assert cache_mask(positions, 3).int().tolist() == [
        [[1, 1, 0], [1, 1, 1]], [[1, 0, 0], [1, 1, 0]],
    ]  # fmt: skip


def test_the_loss_of_uniform_logits_is_the_log_of_the_vocabulary() -> None:
    """Three counted targets over seven words: 3 ln 7 nats; the ignored one adds nothing."""
    logits = torch.zeros(2, 2, 7)
    targets = torch.tensor([[1, 2], [IGNORED, 6]])
    assert cross_entropy_sum(logits, targets).item() == pytest.approx(3 * math.log(7))


def test_attention_by_document_equals_attention_under_the_mask() -> None:
    documents = torch.tensor([[0, 0, 0, 1, 1, 2, 2], [2, 2, 3, 3, 3, 3, 3]])
    q = torch.randn(2, 7, 6, 8, generator=seeded(6))
    k = torch.randn(2, 7, 2, 8, generator=seeded(7))
    v = torch.randn(2, 7, 2, 8, generator=seeded(8))
    spans = document_spans(documents)
    assert spans == [(0, 3), (3, 5), (5, 7), (7, 9), (9, 14)]
    expected = attend_reference(q, k, v, mask=document_mask(documents))
    torch.testing.assert_close(attend_documents(q, k, v, spans), expected)
