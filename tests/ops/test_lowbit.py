import math
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor

from puna.errors import RequestError
from puna.ops import native
from puna.ops.lowbit import Packed, linear, linear_reference, pack, round_inputs
from puna.ops.matrix import Format
from tests.ops.weights import random_packed, seeded

FORMATS = get_args(Format)
LEVELS = native.levels()
EVERY_LEVEL = pytest.mark.parametrize("level", LEVELS or [pytest.param("", marks=pytest.mark.skip)])

# (out, in, group): one of each, short of a panel, past one, unaligned groups, one scale a row.
SHAPES = [(1, 1, 32), (17, 40, 32), (48, 256, 128), (33, 300, 24), (20, 576, 576), (16, 4100, 64)]


def product(level: str, x: Tensor, weight: Packed, threads: int = 2) -> Tensor:
    y = torch.full((x.shape[0], weight.out), torch.nan)
    native.extension().linear(
        level, weight.fields(), x.data_ptr(), x.shape[0], y.data_ptr(), threads
    )
    return y


def assert_close(y: Tensor, x: Tensor, weight: Packed) -> None:
    """Sums differ by their order alone: a few float32 roundings of the sum of sizes."""
    size = x.abs() @ weight.dequantize().abs().T
    wrong = (y - linear_reference(x, weight)).abs() > 3e-6 * size + 1e-9
    assert not wrong.any()


@EVERY_LEVEL
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("out", "inner", "group"), SHAPES)
def test_products_equal_the_reference(
    level: str, format: Format, out: int, inner: int, group: int
) -> None:
    weight = random_packed(format, out, inner, group=group)
    for rows in (1, 3, 5, 14):
        x = torch.randn(rows, inner, generator=seeded(rows))
        assert_close(product(level, x, weight), x, weight)


@EVERY_LEVEL
@pytest.mark.parametrize("format", ["int8", "int4"])
@pytest.mark.parametrize("group", [32, 96, 4000])
def test_products_with_zeros_of_their_own_equal_the_reference(
    level: str, format: Format, group: int
) -> None:
    weight = random_packed(format, 40, 200, group=group, has_zeros=True)
    for rows in (2, 9):
        x = torch.randn(rows, 200, generator=seeded(rows))
        assert_close(product(level, x, weight), x, weight)


@EVERY_LEVEL
@pytest.mark.parametrize("format", FORMATS)
def test_a_row_is_the_same_to_the_bit_in_any_company(level: str, format: Format) -> None:
    weight = random_packed(format, 50, 2100, group=64)
    x = torch.randn(30, 2100, generator=seeded(1))
    together = product(level, x, weight, threads=1)
    for rows in (1, 2, 4, 5, 7, 13, 29):
        for threads in (1, 3):
            alone = product(level, x[-rows:].contiguous(), weight, threads)
            assert torch.equal(alone, together[-rows:])


@pytest.mark.skipif(len(LEVELS) < 2, reason="one level runs here")
@pytest.mark.parametrize("format", ["int8", "int4"])
def test_levels_agree(format: Format) -> None:
    weight = random_packed(format, 70, 700, group=32)
    x = torch.randn(6, 700, generator=seeded(2)) * 100
    first = product(LEVELS[0], x, weight)
    for level in LEVELS[1:]:
        torch.testing.assert_close(product(level, x, weight), first, rtol=1e-5, atol=1e-5)


@EVERY_LEVEL
def test_the_largest_codes_do_not_saturate(level: str) -> None:
    """Two products of 127 * 127 exceed int16 in the naive order; sums of 255 * 127 do at once."""
    for sign in (1, -1):
        codes = torch.full((16, 256), 127 * sign, dtype=torch.int8)
        weight = pack("int8", codes, torch.ones(16, 2), group=128)
        x = torch.full((2, 256), -1.0)
        assert torch.equal(product(level, x, weight), torch.full((2, 16), -127.0 * sign * 256))


@EVERY_LEVEL
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_seen_in_its_row_alone(
    level: str, format: Format, poison: float
) -> None:
    weight = random_packed(format, 20, 256)
    x = torch.randn(6, 256, generator=seeded(3))
    x[2, 200] = poison
    y = product(level, x, weight)
    assert not y[2].isfinite().any()
    assert y[[0, 1, 3, 4, 5]].isfinite().all()


@EVERY_LEVEL
@pytest.mark.parametrize("format", FORMATS)
def test_rows_of_zeros_and_of_tiny_numbers_give_finite_numbers(level: str, format: Format) -> None:
    weight = random_packed(format, 20, 160)
    x = torch.zeros(5, 160)
    x[1:] = torch.tensor([1e-45, 1e-38, 1e-31, 1e-20])[:, None]
    y = product(level, x, weight)
    assert y.isfinite().all()
    assert (y[0] == 0).all()


@EVERY_LEVEL
def test_an_outlier_costs_its_own_group_and_no_other(level: str) -> None:
    weight = pack("f32", torch.eye(256))
    codes = (torch.eye(256) * 127).to(torch.int8)
    packed = pack("int8", codes, torch.full((256, 2), 1 / 127), group=128)
    x = torch.linspace(-1, 1, 256)[None].clone()
    x[0, 7] = 1e4
    error = (product(level, x, packed) - product(level, x, weight)).abs()[0]
    assert error[:128].max() <= 1e4 / 254 + 1e-3
    assert error[128:].max() <= 1 / 254 + 1e-4


@pytest.mark.parametrize("format", ["int8", "int4"])
@pytest.mark.parametrize("group", [32, 40, 500])
def test_packing_keeps_every_code(format: Format, group: int) -> None:
    low, high = (-127, 128) if format == "int8" else (0, 16)
    codes = torch.randint(low, high, (37, 90), generator=seeded(4))
    codes = codes.to(torch.int8 if format == "int8" else torch.uint8)
    groups = -(-90 // group)
    scales = torch.rand(37, groups, generator=seeded(5)).half().float() + 0.5
    zeros = torch.randint(low, high, (37, groups), generator=seeded(6)).float()
    packed = pack(format, codes, scales, zeros, group=group)
    column = torch.arange(90) // group
    expected = (codes.float() - zeros[:, column]) * packed_scales(scales)[:, column]
    assert torch.equal(packed.dequantize(), expected)
    assert torch.equal(packed.rows(torch.tensor([[36, 0]])), expected[[36, 0]][None])


def packed_scales(scales: Tensor) -> Tensor:
    """Scales between 0.5 and 1.5 as float16 keeps them near 2^14."""
    return (scales * 2.0**14).half().float() / 2.0**14


def test_scales_of_any_size_keep_eleven_bits() -> None:
    for size in (1e-30, 1e-9, 1.0, 1e20):
        scales = torch.rand(16, 2, generator=seeded(7)) * size + size / 100
        packed = pack("int8", torch.ones(16, 64, dtype=torch.int8), scales)
        expected = scales.repeat_interleave(32, dim=1)
        torch.testing.assert_close(packed.dequantize(), expected, rtol=2.0**-11, atol=0)


def test_linear_keeps_the_shape_and_dtype_of_its_input() -> None:
    weight = random_packed("int4", 24, 64)
    x = torch.randn(2, 3, 64, generator=seeded(8), dtype=torch.bfloat16)
    y = linear(x, weight)
    assert (y.shape, y.dtype) == ((2, 3, 24), torch.bfloat16)
    torch.testing.assert_close(y, linear_reference(x, weight), rtol=2.0**-7, atol=1e-3)


def test_without_the_extension_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, x = random_packed("int8", 24, 64), torch.randn(2, 64, generator=seeded(9))
    expected = linear_reference(x, weight)
    monkeypatch.setattr(native, "level", lambda: None)
    monkeypatch.setattr(native, "_native", None)
    assert native.levels() == ()
    assert torch.equal(linear(x, weight), expected)


def test_rounded_inputs_stay_within_half_a_step() -> None:
    x = torch.randn(4, 300, generator=seeded(10))
    for group in (128, 300):
        peaks = torch.nn.functional.pad(x, (0, -300 % group)).view(4, -1, group).abs().amax(-1)
        bound = (peaks / 254).repeat_interleave(group, dim=1)[:, :300]
        assert ((round_inputs(x, group) - x).abs() <= bound * 1.001).all()


def test_what_does_not_fit_a_format_is_refused() -> None:
    codes, scales = torch.zeros(8, 64, dtype=torch.uint8), torch.ones(8, 2)
    with pytest.raises(RequestError, match=r"torch\.int8 is expected"):
        pack("int8", codes, scales)
    with pytest.raises(RequestError, match="0 to 16; 0 to 15"):
        pack("int4", codes.index_fill(0, torch.tensor(1), 16), scales)
    with pytest.raises(RequestError, match="group=12"):
        pack("int4", codes, scales, group=12)
    with pytest.raises(RequestError, match="scales none were given"):
        pack("int4", codes)
    with pytest.raises(RequestError, match=r"zeros \[8, 1\]"):
        pack("int4", codes, scales, torch.zeros(8, 1))
    with pytest.raises(RequestError, match="finite"):
        pack("int4", codes, scales * torch.nan)
    with pytest.raises(RequestError, match="shape"):
        pack("f32", torch.zeros(3))


def test_float_weights_are_read_where_they_lie() -> None:
    weight = torch.randn(8, 24, generator=seeded(11))
    packed = pack("f32", weight)
    assert packed.codes.data_ptr() == weight.data_ptr()
    assert packed.nbytes == 8 * 24 * 4
    assert replace(packed, out=8).nbytes == packed.nbytes
