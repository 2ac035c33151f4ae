"""A matrix of int8 or int4 codes as the kernels of a GPU read it.

Codes lie row by row in 32-bit words, four words (16 bytes, what one thread loads at once) to a run
of inputs that share a scale: of a run of 32 int4 inputs, nibble j of word w is input 4 j + w; of a
run of 16 int8 inputs, byte j is. So the inputs that a thread wants for its four words are
neighbours too. `as_gpu_matrix` makes it of the panels of puna.ops.lowbit, on the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

QUAD = 4  # words that lie together
RUN = 32  # inputs to which a row is filled with zeros
MIDDLE = {"int8": 128, "int4": 8}  # the unsigned code of zero
BITS = {"int8": 8, "int4": 4}

_PANELS_AT_ONCE = 256  # that are unpacked together: bounds the memory it takes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GpuMatrix:
    """One weight matrix; weight = (code - middle - zero) * scale * unit of its row."""

    format: Literal["int8", "int4"]
    out: int
    inner: int
    group: int  # inputs that share a scale, a multiple of 32; `inner` or more: one scale a row
    words: Int[Tensor, "out words"]  # int32
    scales: Float[Tensor, "out groups"]  # float16, of at most 2^15
    zeros: Float[Tensor, "out groups"] | None  # float16; None: no group has one of its own
    units: Float[Tensor, "out"]  # float32, powers of two

    @property
    def nbytes(self) -> int:
        """Bytes that a product reads."""
        parts = (self.words, self.scales, self.zeros, self.units)
        return sum(part.numel() * part.element_size() for part in parts if part is not None)

    @property
    def group_words(self) -> int:
        """Words that share a scale."""
        words = self.words.shape[1]
        return words if self.group >= self.inner else self.group * BITS[self.format] // 32

    def dequantize(self) -> Float[Tensor, "out inner"]:
        """Return the matrix in float32."""
        return self.rows(torch.arange(self.out, device=self.words.device))

    def rows(self, index: Int[Tensor, "*n"]) -> Float[Tensor, "*n inner"]:
        """Return some rows in float32."""
        flat = index.flatten().to(self.words.device)
        quads = self.words[flat].view(torch.uint8).view(len(flat), -1, QUAD, 4)
        octets = quads.transpose(2, 3)  # [n, runs, bytes, words]
        if self.format == "int4":
            octets = torch.stack((octets & 15, octets >> 4), dim=3)
        values = octets.flatten(1)[:, : self.inner].float() - MIDDLE[self.format]
        groups = torch.arange(self.inner, device=values.device) // self.group
        if self.zeros is not None:
            values -= self.zeros[flat].float()[:, groups]
        values *= self.scales[flat].float()[:, groups] * self.units[flat, None]
        return values.view(*index.shape, self.inner)


def gpu_matrix(
    format: Literal["int8", "int4"],
    codes: UInt8[Tensor, "out inner"],
    scales: Float[Tensor, "out groups"],
    zeros: Float[Tensor, "out groups"] | None,
    *,
    group: int,
    units: Float[Tensor, "out"],
) -> GpuMatrix:
    """Lay unsigned codes out.

    Args:
        codes: uint8; int8 codes plus 128.
        zeros: relative to the middle code.
    """
    out, inner = codes.shape
    words = torch.cat([_words(format, rows) for rows in torch.split(codes, 16 * _PANELS_AT_ONCE)])
    return GpuMatrix(
        format=format, out=out, inner=inner, group=group, words=words,
        scales=scales.half().contiguous(),
        zeros=None if zeros is None else zeros.half().contiguous(),
        units=units.float().contiguous(),
    )  # fmt: skip


def _words(format: Literal["int8", "int4"], codes: UInt8[Tensor, "rows inner"]) -> Tensor:
    """Pack rows of unsigned codes into words; what fills the last run stands for zero."""
    full = F.pad(codes, (0, -codes.shape[1] % RUN), value=MIDDLE[format])
    if format == "int4":
        pairs = full.view(len(codes), -1, 4, 2, QUAD)
        octets = pairs[:, :, :, 0] | (pairs[:, :, :, 1] << 4)
    else:
        octets = full.view(len(codes), -1, 4, QUAD)
    return octets.transpose(2, 3).contiguous().view(torch.int32).view(len(codes), -1)


def stacked(matrices: Sequence[GpuMatrix]) -> GpuMatrix | None:
    """Return matrices that read the same inputs as one, or None where they are not alike."""
    first = matrices[0]
    kinds = {(m.format, m.inner, min(m.group, m.inner), m.zeros is None) for m in matrices}
    if len(kinds) > 1:
        return None
    zeros = [m.zeros for m in matrices if m.zeros is not None]
    return GpuMatrix(
        format=first.format,
        out=sum(m.out for m in matrices),
        inner=first.inner,
        group=first.group,
        words=torch.cat([m.words for m in matrices]),
        scales=torch.cat([m.scales for m in matrices]),
        zeros=torch.cat(zeros) if zeros else None,
        units=torch.cat([m.units for m in matrices]),
    )
