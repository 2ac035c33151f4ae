"""Which kernel computes what on which GPU: pure functions of what the GPU can do.

Everything that depends on the hardware is decided here, so that a machine without a GPU can test
the decisions. `gpu_of` looks at a device; puna.ops.lowbit, puna.quant.fp8 and puna.infer ask the
functions below with what it found.
"""

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Literal

import torch

Product = Literal["row", "tiles", "torch"]
Fp8Product = Literal["row", "scaled_mm", "torch"]

_BF16 = (8, 0)  # the first NVIDIA chips that multiply bfloat16
_E4M3 = (8, 9)  # the first that multiply e4m3; torch._scaled_mm asks for as much
_MULTIPLE = 16  # of rows and columns; torch._scaled_mm
_GROUP = 32  # weights that share a scale come in whole runs of these (puna.ops.gpu.matrix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """What decides between kernels."""

    capability: tuple[int, int]  # NVIDIA's compute capability
    has_triton: bool

    @property
    def runs_triton(self) -> bool:
        """Whether puna's own kernels run: they compute in bfloat16."""
        return self.has_triton and self.capability >= _BF16


@cache
def gpu_of(device: torch.device) -> Gpu | None:
    """Return what a device can do, None for a processor and for chips of other makers.

    Chips that torch reaches through HIP number their capabilities otherwise, and their e4m3 is
    another format; torch computes there.
    """
    if device.type != "cuda" or torch.version.cuda is None:
        return None
    return Gpu(
        capability=torch.cuda.get_device_capability(device),
        has_triton=find_spec("triton") is not None,
    )


def lowbit_product(gpu: Gpu | None, *, rows: int, inner: int, group: int) -> Product:
    """Choose how rows meet a matrix of int8 or int4 codes.

    One row is bound by reading the weights, which the matrix units do not help; from two rows on
    they do.
    """
    if not has_layout(gpu, inner=inner, group=group) or not rows:
        return "torch"
    return "row" if rows == 1 else "tiles"


def has_layout(gpu: Gpu | None, *, inner: int, group: int) -> bool:
    """Whether puna's kernels can read a matrix with groups of this size."""
    return gpu is not None and gpu.runs_triton and (group >= inner or group % _GROUP == 0)


def fp8_product(gpu: Gpu | None, *, rows: int, inner: int, out: int) -> Fp8Product:
    """Choose how rows in e4m3 meet a matrix in e4m3, with a scale for each row of both."""
    if gpu is None or gpu.capability < _E4M3 or not rows:
        return "torch"
    if rows == 1 and gpu.has_triton:
        return "row"
    return "torch" if inner % _MULTIPLE or out % _MULTIPLE else "scaled_mm"


def rounds_to_fp8(gpu: Gpu | None) -> bool:
    """Whether one kernel brings rows to e4m3; otherwise torch does it in several."""
    return gpu is not None and gpu.has_triton and gpu.capability >= _E4M3


def decodes_by_graph(gpu: Gpu | None) -> bool:
    """Whether a step of decoding is recorded once and replayed."""
    return gpu is not None and gpu.runs_triton
