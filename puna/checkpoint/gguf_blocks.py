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

from puna.checkpoint.gguf_bits import Blocks, cut, half, six_bit_pairs
from puna.checkpoint.gguf_mixtures import RUNS, weights_of


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
    return half(blocks[:, :2]) * cut(blocks, 2).view(torch.int8).float()


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
    scales = cut(blocks, 192, 208).view(torch.int8).float()
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


def _plain(dtype: torch.dtype) -> Callable[[Blocks], Tensor]:
    return lambda blocks: blocks.view(dtype)


def _by_runs(kind: str, middle: int = 0) -> Callable[[Blocks], Tensor]:
    return lambda blocks: weights_of(RUNS[kind](blocks), middle=middle)


# Source: ggml's type numbers.
TYPES: Mapping[str, BlockType] = {
    "F32": BlockType(code=0, values=1, bytes=4, decode=_plain(torch.float32)),
    "F16": BlockType(code=1, values=1, bytes=2, decode=_plain(torch.float16)),
    "Q4_0": BlockType(code=2, values=32, bytes=18, decode=decode_q4_0),
    "Q8_0": BlockType(code=8, values=32, bytes=34, decode=decode_q8_0),
    "Q4_K": BlockType(code=12, values=256, bytes=144, decode=decode_q4_k),
    "Q6_K": BlockType(code=14, values=256, bytes=210, decode=decode_q6_k),
    "Q4_1": BlockType(code=3, values=32, bytes=20, decode=_by_runs("Q4_1")),
    "Q5_0": BlockType(code=6, values=32, bytes=22, decode=_by_runs("Q5_0")),
    "Q5_1": BlockType(code=7, values=32, bytes=24, decode=_by_runs("Q5_1")),
    "Q2_K": BlockType(code=10, values=256, bytes=84, decode=_by_runs("Q2_K")),
    "Q3_K": BlockType(code=11, values=256, bytes=110, decode=_by_runs("Q3_K", middle=8)),
    "Q5_K": BlockType(code=13, values=256, bytes=176, decode=_by_runs("Q5_K")),
    "IQ4_NL": BlockType(code=20, values=32, bytes=18, decode=_by_runs("IQ4_NL")),
    "IQ4_XS": BlockType(code=23, values=256, bytes=136, decode=_by_runs("IQ4_XS")),
    "BF16": BlockType(code=30, values=1, bytes=2, decode=_plain(torch.bfloat16)),
}

# Types that files hold and puna does not read, for messages.
UNREAD = {
    9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S",
    22: "IQ2_S", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip
