"""From the panels of the processor's kernels to the layout of a GPU's.

Files and puna.quant know one packed form, puna.ops.lowbit's; a model that is loaded to a GPU gets
its matrices unpacked on the device, some panels at a time.
"""

import torch
from torch import Tensor

from puna.ops.gpu.choice import Gpu, has_layout
from puna.ops.gpu.matrix import GpuMatrix, gpu_matrix
from puna.ops.lowbit import Packed

_PANELS_AT_ONCE = 256  # bounds the memory that unpacking takes


def as_gpu_matrix(packed: Packed, device: torch.device | str, gpu: Gpu | None) -> GpuMatrix | None:
    """Return a matrix on a device in the layout of its kernels, or None where none reads it."""
    if packed.format not in ("int8", "int4") or packed.scales is None:
        return None
    if not has_layout(gpu, inner=packed.inner, group=packed.group):
        return None
    parts = torch.split(packed.codes, _PANELS_AT_ONCE)
    codes = torch.cat([_unpacked(packed, part.to(device)) for part in parts])[: packed.out]
    return gpu_matrix(
        packed.format,
        codes[:, : packed.inner],
        _by_row(packed.scales, packed.out).to(device),
        None if packed.zeros is None else _by_row(packed.zeros, packed.out).to(device),
        group=packed.group,
        units=torch.full((packed.out,), packed.scale_unit, device=device),
    )


def _unpacked(packed: Packed, panels: Tensor) -> Tensor:
    """Return unsigned codes of some panels [n, words, 16, 4], row by row."""
    lanes = panels.transpose(1, 2)  # [n, 16, words, 4]
    if packed.format == "int4":
        lanes = torch.stack((lanes & 15, lanes >> 4), dim=3)
    return lanes.reshape(lanes.shape[0] * lanes.shape[1], -1)


def _by_row(values: Tensor, out: int) -> Tensor:
    """Return numbers of groups [panels, groups, 16] row by row."""
    return values.transpose(1, 2).flatten(0, 1)[:out]
