import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from puna.ops.gpu.matrix import GpuMatrix
from puna.ops.gpu.run import Tiling, product_reference, row_product, tile_product, tiling
from tests.ops.gpu.matrices import DEVICE, NARROW, random_matrix
from tests.ops.weights import seeded

# Numbers that are none, on purpose: numpy warns of them, under the interpreter.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

Format = Literal["int8", "int4"]

# (format, out, in, group, zeros): unaligned; zeros of their own; one scale a row.
MATRICES: list[tuple[Format, int, int, int, bool]] = [
    ("int4", 17, 200, 32, False),
    ("int4", 9, 1100, 64, True),
    ("int8", 17, 200, 64, True),
    ("int8", 10, 75, 75, False),
]
EVERY_MATRIX = pytest.mark.parametrize(("format", "out", "inner", "group", "zeros"), MATRICES)


def inputs(rows: int, inner: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(rows, inner, generator=seeded(rows)).to(DEVICE, dtype)


def assert_close(y: Tensor, x: Tensor, matrix: GpuMatrix, bound: float) -> None:
    """Stay within a share of the sum of sizes, which cancellation does not shrink."""
    size = x.float().abs() @ matrix.dequantize().abs().T
    wrong = (y.float() - product_reference(x.float(), matrix)).abs() > bound * size + 1e-9
    assert not wrong.any()


@EVERY_MATRIX
def test_one_row_equals_the_reference(
    format: Format, out: int, inner: int, group: int, zeros: bool
) -> None:
    matrix = random_matrix(format, out, inner, group=group, has_zeros=zeros)
    x = inputs(1, inner)
    assert_close(row_product(x, matrix), x, matrix, 3e-6)


@EVERY_MATRIX
def test_several_rows_equal_the_reference(
    format: Format, out: int, inner: int, group: int, zeros: bool
) -> None:
    matrix = random_matrix(format, out, inner, group=group, has_zeros=zeros)
    x = inputs(5, inner)
    assert_close(tile_product(x, matrix, tiling(5, matrix)), x, matrix, 3e-6)


def test_many_rows_of_narrow_numbers_stay_within_their_rounding() -> None:
    matrix = random_matrix("int4", 70, 40)
    for rows in (40, 130):
        x = inputs(rows, 40, NARROW)
        y = tile_product(x, matrix, tiling(rows, matrix))
        assert y.dtype == NARROW
        assert_close(y, x, matrix, 2.0**-8)
    x = inputs(1, 40, torch.bfloat16)
    assert_close(row_product(x, matrix), x, matrix, 2.0**-8)


def test_a_divided_sum_is_the_whole_sum() -> None:
    matrix = random_matrix("int4", 20, 700)
    x = inputs(3, 700)
    for splits in (1, 2, 3):
        tiles = Tiling(block_m=16, block_n=16, block_words=32, splits=splits)
        assert_close(tile_product(x, matrix, tiles), x, matrix, 3e-6)


def test_a_number_that_is_none_is_seen_in_its_row_alone() -> None:
    matrix = random_matrix("int8", 18, 64)
    for poison in (math.nan, math.inf):
        x = inputs(3, 64)
        x[1, 60] = poison
        y = tile_product(x, matrix, tiling(3, matrix))
        assert not y[1].isfinite().any()
        assert y[[0, 2]].isfinite().all()
        assert not row_product(x[1:2], matrix).isfinite().any()


def test_zeros_tiny_numbers_and_outliers_give_finite_numbers() -> None:
    matrix = random_matrix("int4", 18, 64, has_zeros=True)
    x = torch.zeros(4, 64, device=DEVICE)
    x[1], x[2, 7], x[3] = 1e-30, 1e20, 1e-6
    x[3, 5] = 1e5
    y = tile_product(x, matrix, tiling(4, matrix))
    assert y.isfinite().all()
    assert (y[0] == 0).all()
    assert (row_product(x[:1], matrix) == 0).all()
    assert_close(y, x, matrix, 3e-6)
    assert_close(row_product(x[3:], matrix), x[3:], matrix, 3e-6)
