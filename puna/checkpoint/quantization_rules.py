"""`quantization_config` of a Hugging Face folder, written for what stands in few bits.

puna.checkpoint.quantization reads it, and names the spellings and where they come from.
"""

from collections.abc import Mapping
from typing import Any

from puna.checkpoint import panels
from puna.checkpoint.names import HEAD, TABLE
from puna.checkpoint.quantization import Layout
from puna.checkpoint.stored import Low
from puna.errors import ConfigError
from puna.log import note
from puna.quant.fp8 import Fp8Weight

# Our name of each matrix of a block in transformers, as the end of a module's name.
_ENDS = {"wq": "q_proj", "wk": "k_proj", "wv": "v_proj", "wo": "o_proj"}


def write_quantization(
    lows: Mapping[str, Low], layers: int, layout: Layout | None = None
) -> dict[str, Any]:
    """Return `quantization_config` for the modules that are stored in few bits.

    Args:
        lows: puna's names of modules and what they hold.
        layers: of the model, to name those that are left out.
        layout: None takes FBGEMM's where it says everything, as only it knows the bound of
            activation scales.
    """
    left = [name for name in _modules(layers) if name not in lows]
    if layout == "panels":
        return panels.panel_rules([_foreign(name) for name in left])
    bounds = {_bound(low) for low in lows.values()}
    fits = len(bounds) == 1 and None not in bounds
    if layout == "fbgemm_fp8" or (layout is None and fits):
        if not fits:
            raise ConfigError(
                "fbgemm_fp8 holds fp8 with bounded dynamic activation scales and nothing else; "
                "choose the compressed-tensors layout."
            )
        return {
            "quant_method": "fbgemm_fp8",
            "activation_scale_ub": bounds.pop(),
            "modules_to_not_convert": [_foreign(name) for name in left],
        }
    if lost := bounds - {None}:
        note(
            f"compressed-tensors has no place for the bound of activation scales ({lost.pop():g}); "
            "whoever reads the folder scales by the largest activation. fbgemm_fp8 keeps it."
        )
    by_kind: dict[str, list[str]] = {}
    schemes: dict[str, dict[str, Any]] = {}
    for name, low in lows.items():
        scheme = _scheme(low)
        kind = repr(scheme)
        schemes[kind] = scheme
        by_kind.setdefault(kind, []).append(_foreign(name))
    groups = {
        f"group_{number}": {**schemes[kind], "targets": _targets(names)}
        for number, (kind, names) in enumerate(by_kind.items())
    }
    is_fp8 = all(isinstance(low, Fp8Weight) for low in lows.values())
    return {
        "quant_method": "compressed-tensors",
        "format": "float-quantized" if is_fp8 else "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": [_foreign(name) for name in left],
    }


def _bound(low: Low) -> float | None:
    """Return the bound of a matrix with dynamic activation scales, None for any other."""
    is_dynamic = isinstance(low, Fp8Weight) and low.input_scale is None
    return low.bound if isinstance(low, Fp8Weight) and is_dynamic else None


def _scheme(low: Low) -> dict[str, Any]:
    """Spell how one matrix is stored."""
    if not isinstance(low, Fp8Weight):
        columns = low.shape[1]
        by_row = low.group >= columns
        weights: dict[str, Any] = {
            "num_bits": 4 if low.format == "int4" else 8,
            "type": "int",
            "symmetric": low.zeros is None,
            "strategy": "channel" if by_row else "group",
            "group_size": None if by_row else low.group,
            "dynamic": False,
        }
        return {"weights": weights, "input_activations": None, "output_activations": None}
    is_dynamic = low.input_scale is None
    weights = {
        "num_bits": 8,
        "type": "float",
        "symmetric": True,
        "strategy": "channel",
        "dynamic": False,
    }
    inputs = {
        "num_bits": 8,
        "type": "float",
        "symmetric": True,
        "strategy": "token" if is_dynamic else "tensor",
        "dynamic": is_dynamic,
    }
    return {"weights": weights, "input_activations": inputs, "output_activations": None}


def _targets(names: list[str]) -> list[str]:
    """Return the names themselves, or one pattern where they are all matrices of some kinds."""
    ends = sorted({name.rpartition(".")[2] for name in names})
    if "lm_head" in ends:
        return names
    return [f"re:.*\\.{end}$" for end in ends]


def _modules(layers: int) -> list[str]:
    inner = [f"attn.{name}" for name in _ENDS] + ["mlp.gate", "mlp.up", "mlp.down"]
    return [f"blocks.{layer}.{name}" for layer in range(layers) for name in inner] + ["head"]


def _foreign(name: str) -> str:
    """Return Hugging Face's name of a module."""
    if name == "head":
        return HEAD.huggingface.removesuffix(".weight")
    _, layer, inner = name.split(".", 2)
    row = next(row for row in TABLE if row.puna == f"blocks.{{i}}.{inner}.weight")
    return row.huggingface.format(i=layer).removesuffix(".weight")
