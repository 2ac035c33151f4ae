"""Bytes of GGUF's blocks as numbers: half-precision scales, and codes of few bits in a byte."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

Blocks = UInt8[Tensor, "N Z"]


def pieces(packed: UInt8[Tensor, "N K W"], *, bits: int) -> UInt8[Tensor, "N KS W"]:
    """Cut the bytes of each run into pieces of so many bits, the lowest of all bytes first."""
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8).view(-1, 1)
    return ((packed[:, :, None] >> shifts) & ((1 << bits) - 1)).flatten(1, 2)


def cut(blocks: Blocks, start: int, stop: int | None = None) -> UInt8[Tensor, "N W"]:
    """Return some bytes of each block in memory of their own, which any type can be read from.

    Bytes of a single block count as contiguous where they lie, at an offset that no int32 may have.
    """
    return blocks[:, start:stop].clone(memory_format=torch.contiguous_format)


def half(raw: UInt8[Tensor, "N 2"]) -> Float[Tensor, "N 1"]:
    """Return a half-precision number of each block, in float32."""
    return cut(raw, 0).view(torch.float16).float()


def six_bit_pairs(packed: UInt8[Tensor, "N 12"]) -> tuple[Tensor, Tensor]:
    """Unpack eight scales and eight minimums of six bits each from twelve bytes."""
    first, second, third = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = torch.cat((first & 63, (third & 15) | ((first >> 6) << 4)), dim=1)
    minimums = torch.cat((second & 63, (third >> 4) | ((second >> 6) << 4)), dim=1)
    return scales, minimums
