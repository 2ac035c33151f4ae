"""GGUF's formats that stand beside the common ones in a file: runs of codes, scales and lows.

llama.cpp's mixtures hold Q5_K or Q3_K, and where 256 does not divide a row, they fall back to Q5_0,
Q5_1, Q4_1 or IQ4_NL. Each is read here as `x = scale code - low`, from which follow the weights
(puna.checkpoint.gguf_blocks) and the codes of the kernels (puna.checkpoint.gguf_codes), by torch
alone. Source: ggml's quantization formats.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from puna.checkpoint.gguf_bits import Blocks, cut, half, pieces, six_bit_pairs

# codes [N, runs, run], scales [N, runs], and lows of the same shape, or None
Runs = tuple[Int[Tensor, "N R W"], Float[Tensor, "N R"], Float[Tensor, "N R"] | None]

# Source: kvalues_iq4nl of ggml: what the sixteen codes of IQ4_NL and IQ4_XS stand for.
_UNEVEN = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


def runs_q4_1(blocks: Blocks) -> Runs:
    """x = d q + m."""
    return _halves(blocks[:, 4:]), half(blocks[:, 0:2]), -half(blocks[:, 2:4])


def runs_q5_0(blocks: Blocks) -> Runs:
    """x = d (q - 16): the fifth bits of a block lie in a word of their own."""
    codes = _halves(blocks[:, 6:]) | _bits(cut(blocks, 2, 6)) << 4
    return codes.to(torch.int8) - 16, half(blocks[:, 0:2]), None


def runs_q5_1(blocks: Blocks) -> Runs:
    """x = d q + m, with five bits."""
    codes = _halves(blocks[:, 8:]) | _bits(cut(blocks, 4, 8)) << 4
    return codes.to(torch.int8), half(blocks[:, 0:2]), -half(blocks[:, 2:4])


def runs_q5_k(blocks: Blocks) -> Runs:
    """x = d s q - m t, as Q4_K; bit i of 32 bytes belongs to run i."""
    steps, minimums = six_bit_pairs(blocks[:, 4:16])
    high = pieces(blocks[:, None, 16:48], bits=1)  # [N, 8, 32]
    low = pieces(blocks[:, 48:].reshape(-1, 4, 32), bits=4)
    codes = (low | high << 4).to(torch.int8)
    return codes, half(blocks[:, 0:2]) * steps.float(), half(blocks[:, 2:4]) * minimums.float()


def runs_q2_k(blocks: Blocks) -> Runs:
    """x = d s q - m t: sixteen runs of 16, four bits each for s and t."""
    codes = pieces(blocks[:, 16:80].reshape(-1, 2, 32), bits=2).reshape(-1, 16, 16)
    steps, minimums = blocks[:, :16] & 15, blocks[:, :16] >> 4
    return codes, half(blocks[:, 80:82]) * steps.float(), half(blocks[:, 82:84]) * minimums.float()


def runs_q3_k(blocks: Blocks) -> Runs:
    """x = d (s - 32) (q - 4): the third bits of all lie in 32 bytes, six bits of s in three."""
    low = pieces(blocks[:, 32:96].reshape(-1, 2, 32), bits=2)
    high = pieces(blocks[:, None, :32], bits=1)
    codes = (low | high << 2).reshape(-1, 16, 16) + 4  # int4's codes stand for themselves less 8
    steps = pieces(blocks[:, None, 96:104], bits=4).reshape(-1, 16)
    more = pieces(blocks[:, None, 104:108], bits=2).reshape(-1, 16)
    scales = (steps | more << 4).to(torch.int8) - 32
    return codes, half(blocks[:, 108:110]) * scales.float(), None


def runs_iq4_nl(blocks: Blocks) -> Runs:
    """x = d v[q]: sixteen values that lie closer around zero."""
    return _uneven(_halves(blocks[:, 2:])), half(blocks[:, 0:2]), None


def runs_iq4_xs(blocks: Blocks) -> Runs:
    """x = d (s - 32) v[q]: eight runs of 32, six bits of s in two places."""
    low = pieces(cut(blocks, 4, 8)[..., None], bits=4).reshape(-1, 8)
    high = pieces(cut(blocks, 2, 4)[..., None], bits=2).reshape(-1, 8)
    scales = half(blocks[:, 0:2]) * ((low | high << 4).to(torch.int8) - 32).float()
    return (
        _uneven(pieces(blocks[:, 8:].reshape(-1, 8, 16), bits=4).reshape(-1, 8, 32)),
        scales,
        None,
    )


def weights_of(runs: Runs, *, middle: int = 0) -> Float[Tensor, "N W"]:
    """Return the weights that runs stand for."""
    codes, scales, lows = runs
    x = scales[..., None] * (codes.float() - middle)
    return (x if lows is None else x - lows[..., None]).flatten(1)


def _halves(packed: UInt8[Tensor, "N 16"]) -> UInt8[Tensor, "N 1 32"]:
    return pieces(packed[:, None], bits=4).reshape(-1, 1, 32)


def _bits(packed: UInt8[Tensor, "N 4"]) -> UInt8[Tensor, "N 1 32"]:
    return pieces(packed[..., None], bits=1).reshape(-1, 1, 32)


def _uneven(codes: Tensor) -> Tensor:
    return torch.tensor(_UNEVEN, dtype=torch.int8)[codes.int()]


RUNS: Mapping[str, Callable[[Blocks], Runs]] = {
    "Q4_1": runs_q4_1,
    "Q5_0": runs_q5_0,
    "Q5_1": runs_q5_1,
    "Q2_K": runs_q2_k,
    "Q3_K": runs_q3_k,
    "Q5_K": runs_q5_k,
    "IQ4_NL": runs_iq4_nl,
    "IQ4_XS": runs_iq4_xs,
}
