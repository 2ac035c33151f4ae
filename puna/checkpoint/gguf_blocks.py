"""GGUF's number formats: blocks of quantized values to float32 and back.

A row of a tensor is a run of blocks, each holding a few scales and its values in 4, 6 or 8 bits.
Everything here works on whole arrays of blocks; puna.checkpoint.gguf decides which rows.
Source: ggml's quantization formats (the layouts are facts of the file format).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int8, UInt8
from torch import Tensor

Blocks = UInt8[Tensor, "N Z"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockType:
    """One of ggml's types: how many values a block holds, in how many bytes."""

    code: int  # in the tensor table of a file
    values: int
    bytes: int
    decode: Callable[[Blocks], Float[Tensor, "N W"]]

    def row_bytes(self, columns: int) -> int:
        """Return the bytes of one row."""
        return columns // self.values * self.bytes


def decode_q8_0(blocks: Blocks) -> Float[Tensor, "N W"]:
    """x = d q: a half-precision scale, then 32 signed bytes."""
    return half(blocks[:, :2]) * blocks[:, 2:].contiguous().view(torch.int8).float()


def decode_q4_0(blocks: Blocks) -> Float[Tensor, "N W"]:
    """x = d (q - 8): a scale, then 16 bytes whose low nibbles come before the high ones."""
    packed = blocks[:, 2:]
    q = torch.cat((packed & 15, packed >> 4), dim=1)
    return half(blocks[:, :2]) * (q.float() - 8.0)


def decode_q4_k(blocks: Blocks) -> Float[Tensor, "N W"]:
    """x = d s q - m t: eight runs of 32 values with 6-bit scales s and minimums t."""
    N = blocks.shape[0]
    d, m = half(blocks[:, 0:2]), half(blocks[:, 2:4])
    scales, minimums = six_bit_pairs(blocks[:, 4:16])
    q = nibbles_q4_k(blocks).float()
    x = (d * scales.float())[..., None] * q - (m * minimums.float())[..., None]
    return x.reshape(N, 256)


def decode_q6_k(blocks: Blocks) -> Float[Tensor, "N W"]:
    """x = d s (q - 32): four low bits and two high bits a value, a signed scale for each 16."""
    N = blocks.shape[0]
    q = values_q6_k(blocks).view(N, 16, 16).float()
    scales = blocks[:, 192:208].contiguous().view(torch.int8).float()
    x = (half(blocks[:, 208:210]) * scales)[..., None] * q
    return x.reshape(N, 256)


def encode_q8_0(rows: Float[Tensor, "N W"]) -> UInt8[Tensor, "N Z"]:
    """Quantize float32 rows, whose width is a multiple of 32, to Q8_0 blocks.

    d = max|x| / 127 and q = x / d, rounded half away from zero with the unrounded d, as ggml does.
    """
    blocks = rows.float().reshape(-1, 32)
    d = blocks.abs().amax(dim=1, keepdim=True) / 127.0
    inverse = torch.where(d == 0, torch.zeros_like(d), 1.0 / d)
    scaled = blocks * inverse
    whole = scaled.abs().floor()
    q = (whole + (2.0 * (scaled.abs() - whole)).floor()) * scaled.sign()
    packed = torch.cat((d.half().view(torch.uint8), q.to(torch.int8).view(torch.uint8)), dim=1)
    return packed.reshape(rows.shape[0], -1)


def nibbles_q4_k(blocks: Blocks) -> UInt8[Tensor, "N 8 32"]:
    """Return the codes of Q4_K: four runs of 32 bytes, low nibbles before high ones."""
    N = blocks.shape[0]
    packed = blocks[:, 16:].reshape(N, 4, 1, 32)
    return torch.cat((packed & 15, packed >> 4), dim=2).reshape(N, 8, 32)


def values_q6_k(blocks: Blocks) -> Int8[Tensor, "N W"]:
    """Return the codes of Q6_K, -32 .. 31."""
    N = blocks.shape[0]
    low = blocks[:, :128].reshape(N, 2, 1, 64)
    low = torch.cat((low & 15, low >> 4), dim=2).reshape(N, 2, 4, 32)
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8).view(1, 1, 4, 1)
    high = (blocks[:, 128:192].reshape(N, 2, 1, 32) >> shifts) & 3
    return (low | (high << 4)).reshape(N, 256).to(torch.int8) - 32


def half(raw: UInt8[Tensor, "N 2"]) -> Float[Tensor, "N 1"]:
    """Return a half-precision number of each block, in float32."""
    return raw.contiguous().view(torch.float16).float()


def six_bit_pairs(packed: UInt8[Tensor, "N 12"]) -> tuple[Tensor, Tensor]:
    """Unpack eight scales and eight minimums of six bits each from twelve bytes."""
    first, second, third = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = torch.cat((first & 63, (third & 15) | ((first >> 6) << 4)), dim=1)
    minimums = torch.cat((second & 63, (third >> 4) | ((second >> 6) << 4)), dim=1)
    return scales, minimums


def _plain(dtype: torch.dtype) -> Callable[[Blocks], Tensor]:
    return lambda blocks: blocks.view(dtype)


# Source: ggml's type numbers.
TYPES: Mapping[str, BlockType] = {
    "F32": BlockType(code=0, values=1, bytes=4, decode=_plain(torch.float32)),
    "F16": BlockType(code=1, values=1, bytes=2, decode=_plain(torch.float16)),
    "Q4_0": BlockType(code=2, values=32, bytes=18, decode=decode_q4_0),
    "Q8_0": BlockType(code=8, values=32, bytes=34, decode=decode_q8_0),
    "Q4_K": BlockType(code=12, values=256, bytes=144, decode=decode_q4_k),
    "Q6_K": BlockType(code=14, values=256, bytes=210, decode=decode_q6_k),
    "BF16": BlockType(code=30, values=1, bytes=2, decode=_plain(torch.bfloat16)),
}

# Types that files hold and puna does not read, for messages.
UNREAD = {3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 10: "Q2_K", 11: "Q3_K", 13: "Q5_K", 15: "Q8_K"}
