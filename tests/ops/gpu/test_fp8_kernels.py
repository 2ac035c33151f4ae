import math

import pytest
import torch

from puna.ops.gpu.fp8 import fp8_row_product, round_rows
from puna.quant.fp8 import _SMALLEST, E4M3, fp8_product_reference, quantize_rows_reference
from tests.ops.gpu.matrices import DEVICE
from tests.ops.weights import seeded

# Numbers that are none, on purpose: numpy warns of them, under the interpreter.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.mark.parametrize("bound", [None, 1200.0])
def test_rows_are_rounded_as_the_reference_rounds_them(bound: float | None) -> None:
    x = torch.randn(2, 4, 75, generator=seeded(0)) * torch.logspace(-6, 6, 8).view(2, 4, 1)
    x[0, 0], x[0, 1, 3], x[0, 2, 5] = 0.0, 1e5, -1e5
    x[1, 0, 7], x[1, 1] = math.nan, 1e-40
    x = x.to(DEVICE)
    codes, scales = round_rows(x, bound, _SMALLEST)
    expected, expected_scales = quantize_rows_reference(x, bound)
    assert torch.equal(scales.nan_to_num(7.0), expected_scales.nan_to_num(7.0))
    assert torch.equal(codes.float().nan_to_num(7.0), expected.float().nan_to_num(7.0))


def test_an_infinity_is_saturated_under_the_bound() -> None:
    x = torch.ones(2, 40, device=DEVICE)
    x[1, 3] = math.inf
    codes, scales = round_rows(x, 1200.0, _SMALLEST)
    assert float(codes[1, 3].float()) == 448.0
    assert scales.isfinite().all()


def test_every_finite_number_of_e4m3_survives_its_rounding() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(E4M3).float()
    every = every[every.isfinite()][None].to(DEVICE)
    codes, scales = round_rows(every, None, _SMALLEST)
    assert torch.equal(codes.float() * scales, every)


@pytest.mark.parametrize(("out", "inner"), [(7, 75), (18, 600)])
def test_one_row_in_e4m3_is_the_product_of_the_reference(out: int, inner: int) -> None:
    x, x_scales = quantize_rows_reference(torch.randn(1, inner, generator=seeded(1)), 1200.0)
    w, w_scales = quantize_rows_reference(torch.randn(out, inner, generator=seeded(2)))
    given = [part.to(DEVICE) for part in (x, x_scales, w, w_scales)]
    expected = fp8_product_reference(*given)
    found = fp8_row_product(*given)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=2.0**-7, atol=1e-5)
