"""Where kernels run in this process, and random matrices there."""

import os
from typing import Literal

import torch

from puna.ops.gpu.matrix import MIDDLE, GpuMatrix, gpu_matrix
from tests.ops.weights import seeded

IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not IS_INTERPRETED else "cpu"
# The interpreter takes the bits of bfloat16 for whole numbers in a matrix product.
NARROW = torch.float16 if IS_INTERPRETED else torch.bfloat16


def random_matrix(
    format: Literal["int8", "int4"],
    out: int,
    inner: int,
    *,
    group: int = 32,
    has_zeros: bool = False,
) -> GpuMatrix:
    g = seeded(out + inner)
    groups = -(-inner // group)
    codes = torch.randint(0, 2 * MIDDLE[format], (out, inner), generator=g, dtype=torch.uint8)
    scales = torch.rand(out, groups, generator=g) * 2**14 + 1
    zeros = torch.randint(-4, 5, (out, groups), generator=g).float() if has_zeros else None
    return gpu_matrix(
        format,
        codes.to(DEVICE),
        scales.to(DEVICE),
        None if zeros is None else zeros.to(DEVICE),
        group=group,
        units=(2.0 ** -torch.randint(20, 24, (out,), generator=g)).to(DEVICE),
    )
