import math

import pytest
import torch

from puna.checkpoint.load import load_model
from puna.errors import FormatError, RequestError
from puna.model.llama import Llama
from puna.quant.calibrate import Calibration, Method, calibrated
from puna.quant.codes import Codes, Scheme, quantize_weight
from puna.quant.gptq import Gptq, gptq
from puna.quant.recipe import Recipe, quantize_model
from tests.quant.models import rows, tiny_model, written
from tests.testdata import testdata

INT4 = Scheme(bits=4)


def layer_inputs(columns: int = 64) -> torch.Tensor:
    """Return correlated inputs, some channels loud: what makes compensation worth it."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(columns // 4, columns, generator=generator)
    loud = torch.linspace(0.1, 3.0, columns)
    return torch.randn(500, columns // 4, generator=generator) @ mix * loud


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("choices", [Gptq(), Gptq(act_order=False), Gptq(sweeps=0)])
def test_compensated_rounding_halves_the_error_of_the_output(
    symmetric: bool, choices: Gptq
) -> None:
    x, scheme = layer_inputs(), Scheme(bits=4, symmetric=symmetric)
    weight = torch.randn(40, 64, generator=torch.Generator().manual_seed(1))
    hessian = x.T @ x / len(x)

    def error(codes: Codes) -> float:
        return float((x @ (codes.weight() - weight).T).square().mean())

    plain = error(quantize_weight(weight, scheme))
    assert error(gptq(weight, hessian, scheme, choices)) < 0.5 * plain


def test_sweeps_never_make_the_calibrated_error_larger() -> None:
    x = layer_inputs(172)
    weight = torch.randn(24, 172, generator=torch.Generator().manual_seed(1))
    hessian = x.T @ x / len(x)
    errors = [
        float((x @ (gptq(weight, hessian, INT4, Gptq(sweeps=n)).weight() - weight).T).norm())
        for n in (0, 1, 3)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_channels_that_the_text_never_woke_are_still_near_what_they_were() -> None:
    x = layer_inputs()
    x[:, 10:20] = 0.0
    weight = torch.randn(40, 64, generator=torch.Generator().manual_seed(1))
    codes = gptq(weight, x.T @ x / len(x), INT4)
    plain = quantize_weight(weight, INT4)
    lost, least = ((made.weight() - weight)[:, 10:20].abs().mean() for made in (codes, plain))
    assert float(lost) < 2 * float(least)


def test_inputs_that_are_no_numbers_are_refused_by_name() -> None:
    with pytest.raises(FormatError, match=r"blocks\.0\.mlp\.up inputs"):
        gptq(torch.ones(4, 64), torch.full((64, 64), torch.nan), INT4, where="blocks.0.mlp.up")


@pytest.mark.parametrize("method", ["awq", "awq+gptq"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_scales_of_awq_are_folded_exactly(dtype: torch.dtype, method: Method) -> None:
    """With 16 bits of grid nothing is lost to rounding; only an inexact fold would show."""
    model = tiny_model(dtype=dtype).float() if dtype == torch.float32 else tiny_model(dtype=dtype)
    ids = rows(model)
    before = model.float()(ids) if dtype == torch.float32 else tiny_model(dtype=dtype).float()(ids)
    scheme = Scheme(bits=8, group=1, symmetric=False)
    made = dict(calibrated(model, scheme, Calibration(ids=ids, method=method)))
    model = model.float()
    norms = 0
    for name, new in made.items():
        owner = model.get_submodule(name)
        norms += isinstance(new, torch.Tensor)
        weight = new.weight() if isinstance(new, Codes) else new.float()
        owner.weight = torch.nn.Parameter(weight, requires_grad=False)
    assert norms == 2 * model.config.layers
    difference = (model(ids) - before).norm() / before.norm()
    assert float(difference) < 0.02


@pytest.mark.parametrize("method", ["gptq", "awq", "awq+gptq"])
def test_calibration_is_the_same_while_the_model_is_replaced_under_it(method: Method) -> None:
    ids = rows(tiny_model())
    calibration = Calibration(ids=ids, method=method)
    apart = dict(calibrated(tiny_model(), INT4, calibration, head=Scheme(bits=8)))
    kept: dict[str, object] = {}
    quantize_model(tiny_model(), "int4", calibration, keep=kept.__setitem__)
    assert list(kept) == list(apart)
    for name, made in apart.items():
        other = kept[name]
        if isinstance(made, Codes):
            assert isinstance(other, Codes)
            assert torch.equal(made.codes, other.codes), name
        else:
            assert isinstance(other, torch.Tensor)
            assert torch.equal(made, other), name


def test_calibration_without_text_is_refused() -> None:
    with pytest.raises(RequestError, match="Give more text"):
        Calibration(ids=torch.zeros(0, 5, dtype=torch.long))


@torch.no_grad()
def perplexity(model: Llama, ids: torch.Tensor) -> float:
    scores = torch.cat([model(part) for part in torch.split(ids, 8)]).log_softmax(-1)
    return math.exp(-float(scores[:, :-1].gather(-1, ids[:, 1:, None]).mean()))


@pytest.mark.parametrize(
    ("symmetric", "method"), [(True, "gptq"), (False, "gptq"), (True, "awq+gptq")]
)
def test_calibration_saves_half_of_what_plain_rounding_loses_on_trained_weights(
    symmetric: bool, method: Method
) -> None:
    """int4 in groups of 32, on text that stories260K writes itself (its perplexity is 3.6)."""
    folder = testdata("weights/stories260K/hf")
    original = load_model(folder)
    ids = written(original, 40, 160, bos=1, seed=0)
    seen, unseen = ids[:24], ids[24:]
    recipe = Recipe(scheme="int4", symmetric=symmetric, head=None)
    best = perplexity(original, unseen)
    rounded = perplexity(quantize_model(load_model(folder), recipe), unseen)
    calibration = Calibration(ids=seen, method=method)
    mended = perplexity(quantize_model(load_model(folder), recipe, calibration), unseen)
    assert mended - best <= 0.5 * (rounded - best)
