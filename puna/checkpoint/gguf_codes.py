"""GGUF's quantized blocks as the codes that the kernels multiply by, without widening them.

Q8_0 is int8 in groups of 32, Q4_0 is int4 with 8 for zero, Q4_K is int4 with a zero for each group,
Q6_K is int8 in groups of 16; those of puna.checkpoint.gguf_mixtures are int8 or int4, some with
zeros. The codes stand for the same weights that puna.checkpoint.gguf_blocks decodes;
puna.checkpoint.gguf_panels lays them out without this detour.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from puna.checkpoint.gguf_bits import Blocks, cut, half, six_bit_pairs
from puna.checkpoint.gguf_blocks import nibbles_q4_k, values_q6_k
from puna.checkpoint.gguf_mixtures import RUNS
from puna.quant.codes import Codes, Format

# Types whose codes are multiplied as they are: their format, and how many share a scale.
FORMS: Mapping[str, tuple[Format, int]] = {
    "Q8_0": ("int8", 32),
    "Q4_0": ("int4", 32),
    "Q4_K": ("int4", 32),
    "Q6_K": ("int8", 16),
    "Q4_1": ("int4", 32),
    "Q5_0": ("int8", 32),
    "Q5_1": ("int8", 32),
    "Q2_K": ("int4", 16),
    "Q3_K": ("int4", 16),
    "Q5_K": ("int8", 32),
    "IQ4_NL": ("int8", 32),
    "IQ4_XS": ("int8", 32),
}
CODED = tuple(FORMS)


def codes_of(kind: str, blocks: Blocks, rows: int) -> Codes:
    """Return the codes of a matrix of `rows` rows from all of its blocks, row after row.

    In Q4_K the weight is `d s q - m t`, here `(q - zero) scale` with the scale d s and the zero
    m t / (d s): the same up to the rounding of float32.
    """
    match kind:
        case "Q8_0":
            codes = cut(blocks, 2).view(torch.int8)
            return _int8(codes, half(blocks[:, :2]), rows, group=32)
        case "Q6_K":
            scales = half(blocks[:, 208:210]) * cut(blocks, 192, 208).view(torch.int8)
            return _int8(values_q6_k(blocks), scales, rows, group=16)
        case "Q4_0":
            packed = blocks[:, 2:]
            codes = torch.cat((packed & 15, packed >> 4), dim=1).view(rows, -1)
            scales = half(blocks[:, :2]).view(rows, -1)
            return Codes(format="int4", codes=codes, scales=scales, zeros=None, group=32)
        case "Q4_K":
            return _q4_k(blocks, rows)
        case _:
            return _of_runs(kind, blocks, rows)


def encode_q4_0(rows: Float[Tensor, "N W"]) -> UInt8[Tensor, "N Z"]:
    """Quantize float32 rows, whose width is a multiple of 32, to Q4_0 blocks.

    d is the value of largest magnitude over -8, so that it gets the code 0 exactly; the others are
    rounded to the nearest, as ggml does.
    """
    blocks = rows.float().reshape(-1, 32)
    at = blocks.abs().argmax(dim=1, keepdim=True)
    d = blocks.gather(1, at) / -8.0
    inverse = torch.where(d == 0, torch.zeros_like(d), 1.0 / d)
    q = (blocks * inverse + 8.5).clamp(0, 15).to(torch.uint8)
    packed = q[:, :16] | (q[:, 16:] << 4)
    return torch.cat((d.half().view(torch.uint8), packed), dim=1).reshape(rows.shape[0], -1)


def _of_runs(kind: str, blocks: Blocks, rows: int) -> Codes:
    codes, scales, lows = RUNS[kind](blocks)
    zeros = None
    if lows is not None:
        codes = codes.masked_fill((scales == 0)[..., None], 0)
        scales, zeros = _with_zeros(scales, lows)
    form, group = FORMS[kind]
    return Codes(
        format=form,
        codes=codes.reshape(rows, -1),
        scales=scales.reshape(rows, -1),
        zeros=None if zeros is None else zeros.reshape(rows, -1),
        group=group,
    )


def _int8(codes: Tensor, scales: Tensor, rows: int, *, group: int) -> Codes:
    return Codes(
        format="int8",
        codes=codes.reshape(rows, -1),
        scales=scales.float().reshape(rows, -1),
        zeros=None,
        group=group,
    )


def _q4_k(blocks: Blocks, rows: int) -> Codes:
    scales, zeros = grid_q4_k(blocks)
    codes = nibbles_q4_k(blocks).masked_fill_(flat_q4_k(blocks)[..., None], 0)
    return Codes(
        format="int4",
        codes=codes.reshape(rows, -1),
        scales=scales.reshape(rows, -1),
        zeros=zeros.reshape(rows, -1),
        group=32,
    )


def grid_q4_k(blocks: Blocks) -> tuple[Float[Tensor, "N 8"], Float[Tensor, "N 8"]]:
    """Return the scale and the zero of each run."""
    d, m = half(blocks[:, 0:2]), half(blocks[:, 2:4])
    steps, minimums = six_bit_pairs(blocks[:, 4:16])
    return _with_zeros(d * steps.float(), m * minimums.float())


def _with_zeros(scales: Tensor, lows: Tensor) -> tuple[Tensor, Tensor]:
    """Turn lows into zeros; a run without a scale gets its low for one, and the zero 1."""
    flat = scales == 0
    zeros = torch.where(flat, 1.0, lows / torch.where(flat, 1.0, scales))
    return torch.where(flat, lows, scales), zeros


def flat_q4_k(blocks: Blocks) -> Bool[Tensor, "N 8"]:
    """Say which runs have no scale: each is its minimum throughout, so its codes are to be 0."""
    steps, _ = six_bit_pairs(blocks[:, 4:16])
    return half(blocks[:, 0:2]) * steps.float() == 0
