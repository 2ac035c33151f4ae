import math

import pytest
import torch

from puna.errors import FormatError, RequestError
from puna.quant.calibrate import Calibration
from puna.quant.fp8 import (
    E4M3,
    E4M3_MAX,
    Fp8Linear,
    fp8_product,
    fp8_product_reference,
    quantize_fp8,
    quantize_rows,
)
from puna.quant.recipe import Recipe, quantize_model
from tests.quant.models import rows, tiny_model


def e4m3(code: int) -> float:
    """Return the number of an e4m3 code by its definition: bias 7, no infinities, 0x7F is NaN."""
    sign, exponent, mantissa = code >> 7, (code >> 3) & 15, code & 7
    if exponent == 15 and mantissa == 7:
        return math.nan
    size = mantissa * 2.0**-9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10)
    return -size if sign else size


def test_all_256_codes_are_the_numbers_of_e4m3() -> None:
    found = torch.arange(256, dtype=torch.uint8).view(E4M3).float()
    expected = torch.tensor([e4m3(code) for code in range(256)])
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_a_row_with_an_outlier_gets_the_bounded_scale() -> None:
    x = torch.full((3, 40), 0.5)
    x[1, 7] = 1e5
    codes, scales = quantize_rows(x, 1200.0)
    assert float(scales[1]) == pytest.approx(1200 / 448)
    assert float(scales[0]) == pytest.approx(0.5 / 448)
    assert float(codes.float()[1, 7]) == E4M3_MAX
    assert bool(codes.float().isfinite().all())


def test_the_bound_keeps_what_stands_beside_an_outlier() -> None:
    x = torch.full((1, 40), 0.1)
    x[0, 3] = 1e5
    bounded, _ = quantize_rows(x, 1200.0)
    free, _ = quantize_rows(x)
    assert bool((bounded.float() != 0).all())
    assert int((free.float() != 0).sum()) == 1


def test_rows_of_zeros_and_of_very_different_size_keep_their_own_scales() -> None:
    weight = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    weight[1] *= 1e4
    weight[2] *= 1e-4
    weight[3] = 0.0
    back = quantize_fp8(weight).weight()
    assert not back[3].any()
    for row in (0, 1, 2, 4):
        assert float((back[row] - weight[row]).norm() / weight[row].norm()) < 0.04


def test_row_scales_beat_one_scale_where_a_row_is_loud() -> None:
    weight = torch.randn(32, 48, generator=torch.Generator().manual_seed(0)) * 1e-3
    weight[5] *= 1e6
    calm = torch.arange(32) != 5
    by_row = quantize_fp8(weight).weight()
    scale = weight.abs().max() / E4M3_MAX
    by_tensor = (weight / scale).to(E4M3).float() * scale
    lost = [float((x - weight)[calm].square().sum()) for x in (by_row, by_tensor)]
    assert lost[0] < lost[1] / 100


def test_the_product_is_that_of_exact_arithmetic_rounded_to_bfloat16() -> None:
    generator = torch.Generator().manual_seed(0)
    x, x_scales = quantize_rows(torch.randn(5, 80, generator=generator), 1200.0)
    w, w_scales = quantize_rows(torch.randn(33, 80, generator=generator))
    exact = x.double() @ w.double().T * x_scales.double() * w_scales.double().T
    found = fp8_product(x, x_scales, w, w_scales)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, fp8_product_reference(x, x_scales, w, w_scales))
    torch.testing.assert_close(found.double(), exact, rtol=2.0**-8, atol=1e-5)


def test_a_layer_in_fp8_is_near_the_layer_and_its_scales_act_once() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(48, 80, generator=generator) * torch.logspace(-2, 2, 48)[:, None]
    x = torch.randn(2, 3, 80, generator=generator)
    expected = x @ weight.T
    found = Fp8Linear(quantize_fp8(weight))(x)
    by_row = (found - expected).norm(dim=(0, 1)) / expected.norm(dim=(0, 1))
    assert float(by_row.max()) < 0.08


def test_only_feed_forward_layers_between_the_first_and_the_last_are_fp8() -> None:
    kept: dict[str, object] = {}
    model = quantize_model(tiny_model(), "fp8", keep=kept.__setitem__)
    assert list(kept) == [
        f"blocks.{layer}.mlp.{name}" for layer in (1, 2) for name in ("gate", "up", "down")
    ]
    ids = rows(model)
    logits, original = model(ids).flatten(), tiny_model()(ids).flatten()
    assert float(torch.cosine_similarity(logits, original, dim=0)) > 0.99


def test_static_scales_come_from_the_text_and_are_bounded() -> None:
    model = tiny_model()
    calibration = Calibration(ids=rows(model))
    kept: dict[str, object] = {}
    quantize_model(model, "fp8", calibration, keep=kept.__setitem__)
    layer = model.get_submodule("blocks.1.mlp.down")
    assert isinstance(layer, Fp8Linear)
    assert layer.input_scale is not None
    logits, original = model(calibration.ids).flatten(), tiny_model()(calibration.ids).flatten()
    assert float(torch.cosine_similarity(logits, original, dim=0)) > 0.99
    bounded = Recipe(scheme="fp8", bound=1e-3)
    quantize_model(model := tiny_model(), bounded, calibration)
    small = model.get_submodule("blocks.1.mlp.down")
    assert isinstance(small, Fp8Linear)
    assert small.input_scale == pytest.approx(1e-3 / 448)


def test_a_model_of_two_layers_has_nothing_for_fp8() -> None:
    model = tiny_model()
    model.blocks = model.blocks[:2]
    with pytest.raises(RequestError, match="three or more"):
        quantize_model(model, "fp8")


def test_a_weight_with_nan_is_refused() -> None:
    with pytest.raises(FormatError, match="NaN"):
        quantize_fp8(torch.full((3, 4), torch.nan))
