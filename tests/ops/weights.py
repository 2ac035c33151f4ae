"""Random packed weights for the tests of products."""

import torch

from puna.ops.lowbit import Packed, pack
from puna.ops.matrix import Format


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_packed(
    format: Format, out: int, inner: int, *, group: int = 32, has_zeros: bool = False, seed: int = 0
) -> Packed:
    g = seeded(seed)
    if format in ("f32", "bf16"):
        return pack(format, torch.randn(out, inner, generator=g) * 0.05)
    groups = -(-inner // group)
    scales = torch.rand(out, groups, generator=g) * 1e-3 + 1e-4
    low, high = (-127, 128) if format == "int8" else (0, 16)
    dtype = torch.int8 if format == "int8" else torch.uint8
    codes = torch.randint(low, high, (out, inner), generator=g, dtype=dtype)
    zeros = None
    if has_zeros:
        zeros = torch.rand(out, groups, generator=g) * (high - low) + low
    return pack(format, codes, scales, zeros, group=group)
