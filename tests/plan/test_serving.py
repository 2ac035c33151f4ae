"""What serving takes: counted from the shape, and equal to what the real modules hold."""

from dataclasses import replace
from typing import Literal

import pytest

from puna.errors import ConfigError, RequestError
from puna.model.config import ModelConfig
from puna.model.family import FAMILY
from puna.model.init import initialise
from puna.model.llama import Llama
from puna.plan.serving import GPUS, Load, needs_of, splits, weight_bytes
from puna.quant.fp8 import Fp8Linear
from puna.quant.linear import QuantLinear
from puna.quant.recipe import quantize_model

L405 = FAMILY["llama-3.1-405b"].config
SMALL = Load(running=1, tokens=4096)


SHAPE = ModelConfig(
    width=64, layers=4, heads=8, kv_heads=4, mlp_width=160, vocab=320, context=128, tied=True
)


@pytest.mark.parametrize("kind", ["int8", "int4", "fp8"])
@pytest.mark.parametrize("tied", [True, False])
def test_rounded_weights_take_the_bytes_that_the_modules_hold(
    kind: Literal["int8", "fp8"], tied: bool
) -> None:
    shape = replace(SHAPE, tied=tied)
    model = initialised(Llama(shape))
    quantize_model(model, kind)
    low = 0
    for module in model.modules():
        if isinstance(module, QuantLinear):
            low += module.packed.nbytes
        elif isinstance(module, Fp8Linear):
            low += sum(part.numel() * part.element_size() for part in module.buffers())
    kept = sum(weight.numel() for weight in model.parameters())
    assert weight_bytes(shape, kind) == low + 2 * kept


def test_whole_weights_take_their_number_of_bytes() -> None:
    model = Llama(SHAPE)
    held = {weight.data_ptr(): weight.numel() for weight in model.parameters()}
    assert weight_bytes(SHAPE, "bfloat16") == 2 * sum(held.values())
    assert weight_bytes(SHAPE, "float32") == 4 * sum(held.values())


def initialised(model: Llama) -> Llama:
    initialise(model, seed=0, std=0.3)
    return model.eval().requires_grad_(False)


def test_the_largest_model_takes_what_the_paper_says() -> None:
    """810 GB in bfloat16 do not fit 8 x 80 GB, and in FP8 they do. Source: sections 6.1 and 6.2."""
    assert weight_bytes(L405, "bfloat16") == 811_706_777_600
    # 80 % of the weights in one byte, with a float32 scale a row: 487 GB.
    assert weight_bytes(L405, "fp8") / 1e9 == pytest.approx(487.2, abs=0.2)
    plain, fp8 = (needs_of(L405, SMALL, kind=kind, gpu="h100") for kind in ("bfloat16", "fp8"))
    assert (plain.tensor_parallel, plain.pipeline_parallel, plain.nodes) == (8, 2, 2)
    assert (fp8.tensor_parallel, fp8.pipeline_parallel, fp8.nodes) == (8, 1, 1)


def test_eight_devices_of_40_gb_hold_the_largest_model_in_4_bits_alone() -> None:
    assert needs_of(L405, SMALL, kind="int4", gpu="a100-40").nodes == 1
    assert needs_of(L405, SMALL, kind="fp8", gpu="a100-40").nodes == 2


def test_a_cache_is_counted_for_the_load() -> None:
    config = FAMILY["llama-3.1-8b"].config
    needs = needs_of(config, Load(running=4, tokens=1000), gpu="h100")
    # 2 x 32 layers x 8 heads x 128 wide x 2 bytes a token.
    assert needs.cache_bytes == 4000 * 131_072
    assert needs.gpus == 1
    assert needs_of(config, Load(running=64, tokens=32_768), gpu="h100").gpus == 8
    on_cpu = needs_of(config, Load(running=1, tokens=1000), kind="float32")
    assert on_cpu.host_bytes > on_cpu.weight_bytes == 4 * config.parameters
    assert on_cpu.cache_bytes == 1000 * 2 * 131_072


def test_a_split_divides_the_heads_and_never_has_more_stages_than_layers() -> None:
    for member in FAMILY.values():
        for tensor, stages in splits(member.config, 8):
            assert member.config.kv_heads % tensor == 0
            assert stages <= member.config.layers
            assert stages == 1 or tensor == max(t for t, _ in splits(member.config, 8))


def test_what_cannot_be_planned_is_refused() -> None:
    with pytest.raises(RequestError, match="h100"):
        needs_of(L405, SMALL, gpu="b200")
    with pytest.raises(RequestError, match="131,072"):
        needs_of(L405, Load(tokens=200_000))
    with pytest.raises(RequestError, match="no number of devices"):
        needs_of(L405, Load(running=4096, tokens=131_072), gpu="l4")
    with pytest.raises(RequestError, match="int3"):
        needs_of(L405, SMALL, kind="int3")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="running"):
        Load(running=0)
    assert set(GPUS) >= {"h100", "a100-40"}
