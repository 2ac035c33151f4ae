"""Codes as they lie in a file: eight int4 or four int8 to a 32-bit word, the first column lowest.

The kernels' layout is made from whole words, without ever spreading codes to a byte each: an int4
model of a billion weights is ready in a second or two. Codes have no sign here; int8 is stored plus
128. puna.checkpoint.compressed reads and writes these.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from puna.quant.codes import Codes, Format


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """One matrix in few bits, packed."""

    format: Format
    words: Int[Tensor, "out words"]  # int32
    shape: tuple[int, int]
    scales: Float[Tensor, "out groups"]
    zeros: Float[Tensor, "out groups"] | None
    group: int

    def codes(self) -> Codes:
        """Return the same matrix with a byte for each code."""
        octets = unpack_words(self.words, self.format, self.shape[1])
        codes = octets if self.format == "int4" else (octets ^ 128).view(torch.int8)
        return Codes(
            format=self.format, codes=codes, scales=self.scales, zeros=self.zeros, group=self.group
        )

    def weight(self) -> Float[Tensor, "out in"]:
        """Return the matrix that the codes stand for, in float32."""
        return self.codes().weight()

    @property
    def bits_per_weight(self) -> float:
        """Bits that a weight takes on disk, with its share of a 16-bit scale and a zero."""
        bits = 4 if self.format == "int4" else 8
        shared = 16 + (0 if self.zeros is None else bits)
        return bits + shared * self.scales.numel() / (self.shape[0] * self.shape[1])


def pack_words(codes: Tensor, form: Format) -> Int[Tensor, "rows words"]:
    """Pack unsigned codes [rows, columns] into words; the last one is filled with zeros."""
    if form == "int4":
        codes = F.pad(codes, (0, -codes.shape[1] % 8))
        codes = codes[:, 0::2] | (codes[:, 1::2] << 4)
    return F.pad(codes, (0, -codes.shape[1] % 4)).contiguous().view(torch.int32)


def unpack_words(words: Tensor, form: Format, columns: int) -> Int[Tensor, "rows columns"]:
    """Return the unsigned codes of packed words."""
    octets = words.contiguous().view(torch.uint8)
    if form == "int4":
        octets = torch.stack((octets & 15, octets >> 4), dim=-1).flatten(1)
    return octets[:, :columns].contiguous()
