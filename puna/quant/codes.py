"""A matrix in few bits: small whole numbers, and for each run of a row a scale and a zero.

Everything in this room ends here: plain rounding below, error-compensating rounding in
puna.quant.gptq. puna.checkpoint writes these codes and reads them; puna.quant.linear multiplies by
them. The weight is `(code - zero) * scale`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from puna.errors import ConfigError, FormatError

Format = Literal["int8", "int4"]

# The smallest and largest code of a format, and the code of zero where none is stored. Codes of
# eight bits leave -128 out, so that a code and its negative both exist.
RANGES: dict[Format, tuple[int, int, int]] = {"int8": (-127, 127, 0), "int4": (0, 15, 8)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How a matrix is rounded: bits, the run of columns that shares a scale, and the grid."""

    bits: int  # 4 or 8
    group: int = 32  # columns that share a scale
    symmetric: bool = True  # zero is the middle code; otherwise each group has a zero of its own

    def __post_init__(self) -> None:
        if self.bits not in (4, 8):
            raise ConfigError(f"bits={self.bits}; 4 or 8 are expected.")
        if self.group < 1:
            raise ConfigError(f"group={self.group}; a number of columns (32, 64, 128) is expected.")

    @property
    def format(self) -> Format:
        """The name of the codes' format."""
        return "int4" if self.bits == 4 else "int8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """One matrix in few bits; the last group of a row may be shorter than the others."""

    format: Format
    codes: Int[Tensor, "out in"]  # int8 of -127 .. 127, or uint8 of 0 .. 15
    scales: Float[Tensor, "out groups"]
    zeros: Float[Tensor, "out groups"] | None  # None: 8 of int4, 0 of int8
    group: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix."""
        return self.codes.shape[0], self.codes.shape[1]

    @property
    def bits_per_weight(self) -> float:
        """Bits that a weight takes on disk: a code, and its share of a 16-bit scale and a zero."""
        bits = 4 if self.format == "int4" else 8
        shared = 16 + (0 if self.zeros is None else bits)
        return bits + shared * self.scales.numel() / self.codes.numel()

    def weight(self) -> Float[Tensor, "out in"]:
        """Return the matrix that the codes stand for, in float32."""
        columns = self.codes.shape[1]
        scales = spread(self.scales, self.group, columns)
        zero = RANGES[self.format][2]
        zeros = zero if self.zeros is None else spread(self.zeros, self.group, columns)
        return (self.codes.float() - zeros) * scales

    def split(self, rows: Sequence[int]) -> "list[Codes]":
        """Cut a matrix that was rounded as one into the matrices that it was put together from."""
        sizes = list(rows)
        zeros = [None] * len(sizes) if self.zeros is None else torch.split(self.zeros, sizes)
        parts = zip(
            torch.split(self.codes, sizes), torch.split(self.scales, sizes), zeros, strict=True
        )
        return [replace(self, codes=codes, scales=scales, zeros=z) for codes, scales, z in parts]


def stacked(pieces: Sequence[Codes]) -> Codes:
    """Put runs of rows together into one matrix."""
    zeros = [piece.zeros for piece in pieces if piece.zeros is not None]
    return replace(
        pieces[0],
        codes=torch.cat([piece.codes for piece in pieces]),
        scales=torch.cat([piece.scales for piece in pieces]),
        zeros=torch.cat(zeros) if zeros else None,
    )


def quantize_weight(
    weight: Float[Tensor, "out in"], scheme: Scheme, *, where: str = "weight"
) -> Codes:
    """Round a matrix to the nearest codes.

    The error of a weight is at most half a step of its group's scale, and one step where each
    group has a zero of its own (which is rounded too); a step is the group's range over 15 or 254.
    Scales are bfloat16 numbers, so that no format on disk rounds them again.

    Raises:
        FormatError: the matrix holds NaN or an infinity, which no code stands for.
    """
    wide = checked(weight, where)
    scales, zeros = grid_over(*extents(groups_of(wide, scheme.group)), scheme)
    codes = round_to(wide, scales, zeros, scheme)
    return Codes(format=scheme.format, codes=codes, scales=scales, zeros=zeros, group=scheme.group)


def checked(weight: Tensor, where: str) -> Tensor:
    """Return a matrix in float32, and stop on one that holds NaN or an infinity."""
    wide = weight.detach().float()
    if wide.ndim != 2:
        raise FormatError(f"{where}: the shape is {list(wide.shape)}; a matrix is expected.")
    bad = int((~torch.isfinite(wide)).sum())
    if bad:
        raise FormatError(
            f"{where}: {bad} of {wide.numel():,} weights are NaN or infinite; finite numbers are "
            "expected. The checkpoint is damaged: train or download it again."
        )
    return wide


def extents(
    grouped: Float[Tensor, "out groups group"],
) -> tuple[Float[Tensor, "out groups"], Float[Tensor, "out groups"]]:
    """Return how far each group reaches below and above zero."""
    return grouped.amin(-1).clamp_(max=0.0), grouped.amax(-1).clamp_(min=0.0)


def grid_over(
    low: Float[Tensor, "out groups"], high: Float[Tensor, "out groups"], scheme: Scheme
) -> tuple[Float[Tensor, "out groups"], Float[Tensor, "out groups"] | None]:
    """Return scales and zeros whose codes reach from `low` to `high`."""
    first, last, _ = RANGES[scheme.format]
    if scheme.symmetric:
        # Sixteen codes reach from -8 to 7: a range of 7.5 each way costs both ends half a step.
        return to_scale(torch.maximum(-low, high) / ((last - first) / 2)), None
    scales = to_scale((high - low) / (last - first))
    return scales, (first - low / scales).round_().clamp_(first, last)


def round_to(
    weight: Tensor, scales: Tensor, zeros: Tensor | None, scheme: Scheme
) -> Int[Tensor, "out in"]:
    """Return the codes nearest to a matrix under given scales and zeros."""
    first, last, zero = RANGES[scheme.format]
    columns = weight.shape[1]
    shift = float(zero) if zeros is None else spread(zeros, scheme.group, columns)
    codes = (weight / spread(scales, scheme.group, columns) + shift).round().clamp(first, last)
    return codes.to(code_dtype(scheme.format))


def groups_of(weight: Tensor, group: int) -> Float[Tensor, "out groups group"]:
    """Cut rows into groups; the last one is filled with zeros, which widen no range."""
    rows, columns = weight.shape
    missing = -columns % group
    padded = torch.nn.functional.pad(weight, (0, missing)) if missing else weight
    return padded.reshape(rows, -1, group)


def code_dtype(form: Format) -> torch.dtype:
    """Return what codes of a format are kept as."""
    return torch.uint8 if form == "int4" else torch.int8


def spread(per_group: Tensor, group: int, columns: int) -> Tensor:
    """Repeat a number of each group for each of its columns."""
    return per_group.repeat_interleave(group, dim=1)[:, :columns]


def to_scale(scales: Tensor) -> Tensor:
    """Round scales to bfloat16; a group of zeros, or too small for a scale, has the scale one."""
    rounded = scales.bfloat16().float()
    return torch.where(rounded > torch.finfo(torch.float32).tiny, rounded, 1.0)
