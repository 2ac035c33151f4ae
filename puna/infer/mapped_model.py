"""A model that runs from its file by the native decoder alone, before torch could be imported.

A folder qualifies when the kernels read every matrix where it lies: panels of int4 and int8, and
float32 or bfloat16 weights where those are what the model would be computed in. `puna.llm` asks;
`puna.infer.rows` makes the decoder. What it computes is what the same folder computes by way of
torch, to the bit (docs/decisions/0014).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from puna.checkpoint.stored import Checkpoint, StoredTensor
from puna.device import has_fast_bfloat16
from puna.infer.decoder import fit, matrix_names
from puna.model.config import ModelConfig
from puna.ops import native
from puna.ops.frequencies import frequencies
from puna.ops.matrix import Format, Matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from puna.model.llama import Llama

Float = Literal["float32", "bfloat16"]
_KINDS: Mapping[str, Float] = {"float32": "float32", "bfloat16": "bfloat16"}
_STORED: Mapping[Float, str] = {"float32": "F32", "bfloat16": "BF16"}
_PLAIN: Mapping[str, Format] = {"F32": "f32", "BF16": "bf16"}
_WIDENED = ("F32", "F16", "BF16")  # that norms may be stored in


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MappedModel:
    """Weights where they lie, under puna's names."""

    config: ModelConfig
    matrices: "Mapping[str, Matrix]"
    norms: "Mapping[str, NDArray[np.float32]]"
    freqs: tuple[float, ...]
    level: str  # of the kernels
    as_module: "Callable[[], Llama]"  # the same model as torch has it


def map_model(
    checkpoint: Checkpoint, dtype: str, as_module: "Callable[[], Llama]"
) -> MappedModel | None:
    """Map a model, or answer None where it does not run from its file.

    Args:
        dtype: that the model would be computed in; "auto" takes what the processor is fast at.
    Raises:
        FormatError: a scale is no number, or a file has gone.
    """
    level, config = native.level(), checkpoint.config
    kind: Float | None = _KINDS.get(dtype) if dtype != "auto" else _fast_float()
    if level is None or kind is None:
        return None
    names = matrix_names(config, has_head=not config.tied)
    matrices = {name: checkpoint.tensors[f"{name}.weight"] for name in names}
    norms = {name: stored for name, stored in checkpoint.tensors.items() if len(stored.shape) == 1}
    if not all(_lies_ready(name, matrices[name], checkpoint, kind) for name in names):
        return None
    if not all(stored.array is not None and stored.dtype in _WIDENED for stored in norms.values()):
        return None
    mapped = {name: _matrix(stored) for name, stored in matrices.items()}
    if not fit(mapped, config):
        return None
    freqs = frequencies(config.head_width, config.rope_theta, config.rope_scaling)
    return MappedModel(
        config=config,
        matrices=mapped,
        norms={name: _norm(stored, kind) for name, stored in norms.items()},
        freqs=tuple(freqs.tolist()),
        level=level,
        as_module=as_module,
    )


def _fast_float() -> Float:
    return "bfloat16" if has_fast_bfloat16() else "float32"


def _lies_ready(name: str, stored: StoredTensor, checkpoint: Checkpoint, kind: Float) -> bool:
    """Say whether a matrix is multiplied as it is stored."""
    if stored.panels is not None:
        return True
    is_looked_up = name == "embed" and checkpoint.has_narrow_embedding
    return stored.array is not None and (stored.dtype == _STORED[kind] or is_looked_up)


def _matrix(stored: StoredTensor) -> Matrix:
    if stored.panels is not None:
        return stored.panels.matrix()
    assert stored.array is not None
    out, inner = stored.shape
    form = _PLAIN[stored.dtype]
    return Matrix(format=form, out=out, inner=inner, group=inner, codes=stored.array())


def _norm(stored: StoredTensor, kind: Float) -> "NDArray[np.float32]":
    """Return a norm's weights as the decoder reads them: rounded to `kind`, in float32."""
    assert stored.array is not None
    given = stored.array()
    if stored.dtype == "BF16":
        return (given.astype(np.uint32) << 16).view(np.float32)
    wide = np.ascontiguousarray(given, dtype=np.float32)
    return wide if kind == "float32" else rounded(wide)


def rounded(wide: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Return numbers rounded to the nearest of bfloat16's, ties to the even one."""
    bits = wide.view(np.uint32)
    nearest = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    kept = np.where(np.isnan(wide), bits, nearest) & np.uint32(0xFFFF0000)
    return kept.view(np.float32)
