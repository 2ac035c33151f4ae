import pytest
import torch

from puna.ops.gpu.step import Pages, add_and_norm, attend_pages, gated, turn_and_store
from puna.ops.rope import inverse_frequencies, rotation
from tests.ops.gpu.matrices import DEVICE
from tests.ops.weights import seeded

H, K, E, Z, P = 6, 2, 24, 8, 9
HELD = [0, 7, 20, 0]  # an empty past, the end of a page, several pages; the last only fills


def pages() -> Pages:
    tables = torch.tensor([[4, 0, 0], [2, 0, 0], [1, 8, 3], [-1, -1, -1]], dtype=torch.int32)
    held = torch.tensor(HELD, dtype=torch.int32)
    cos, sin = rotation(held[None].long(), inverse_frequencies(E, 1e4))
    cos, sin = (part[0, :, 0].contiguous().to(DEVICE) for part in (cos, sin))
    return Pages(held=held.to(DEVICE), tables=tables.to(DEVICE), cos=cos, sin=sin)


def cache() -> tuple[torch.Tensor, torch.Tensor]:
    keys, values = (torch.randn(P, K, Z, E, generator=seeded(n)).to(DEVICE) for n in (1, 2))
    keys[6] = torch.nan  # a page of nobody's
    return keys, values


@pytest.mark.parametrize("has_more", [True, False])
def test_norms_equal_the_reference(has_more: bool) -> None:
    x, more = (torch.randn(3, 72, generator=seeded(n)).to(DEVICE) for n in (3, 4))
    weight = torch.rand(72, generator=seeded(5)).to(DEVICE)
    given = x, more if has_more else None, weight, 1e-5
    for found, expected in zip(
        add_and_norm(*given, fused=True), add_and_norm(*given, fused=False), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_keys_and_values_go_where_the_reference_puts_them() -> None:
    qkv = torch.randn(4, (H + 2 * K) * E, generator=seeded(6)).to(DEVICE)
    found, expected = cache(), cache()
    q = turn_and_store(qkv, pages(), *found, heads=H, fused=True)
    reference = turn_and_store(qkv, pages(), *expected, heads=H, fused=False)
    torch.testing.assert_close(q, reference, rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_attention_reads_each_row_its_own_pages_and_nothing_else() -> None:
    q = torch.randn(4, H, E, generator=seeded(7)).to(DEVICE)
    found = attend_pages(q, pages(), *cache(), fused=True)
    expected = attend_pages(q, pages(), *cache(), fused=False)
    torch.testing.assert_close(found[:3], expected[:3], rtol=1e-5, atol=1e-5)


def test_gates_equal_the_reference() -> None:
    both = torch.randn(3, 2 * 75, generator=seeded(8)).to(DEVICE) * 4
    found, expected = gated(both, fused=True), gated(both, fused=False)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
