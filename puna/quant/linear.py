"""Linear layers and embeddings in few bits, in the places of torch's.

`QuantLinear` hands its packed weight to puna.ops.lowbit, which chooses the kernel; `RowEmbedding`
widens the rows that are asked for and no others. Neither holds the matrix in wide numbers.
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from puna.ops import lowbit
from puna.ops.gpu.choice import gpu_of
from puna.ops.gpu.matrix import GpuMatrix
from puna.ops.gpu.panels import as_gpu_matrix
from puna.quant.codes import Codes
from puna.quant.words import Words


class QuantLinear(nn.Module):
    """A linear layer whose weight is packed codes."""

    def __init__(
        self, codes: Codes | Words | lowbit.Packed, *, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__()
        packed = codes if isinstance(codes, lowbit.Packed) else packed_of(codes)
        self.out_features, self.in_features = packed.out, packed.inner
        self.packed: lowbit.Packed | GpuMatrix = packed
        if torch.device(device).type != "cpu":
            self.packed = moved(packed, device)

    def forward(self, x: Float[Tensor, "*N in"]) -> Float[Tensor, "*N out"]:
        """Return x w^T."""
        return lowbit.linear(x, self.packed)


def packed_of(codes: Codes | Words) -> lowbit.Packed:
    """Lay codes out for the kernels."""
    shared = codes.scales, codes.zeros, codes.group
    if isinstance(codes, Words):
        return lowbit.pack_words(codes.format, codes.words, codes.shape[1], *shared)
    return lowbit.pack(codes.format, codes.codes, *shared)


def moved(packed: lowbit.Packed, device: torch.device | str) -> lowbit.Packed | GpuMatrix:
    """Return a packed weight on another device, in the layout of its kernels where it has any.

    Otherwise torch multiplies by it.
    """
    found = as_gpu_matrix(packed, device, gpu_of(torch.device(device)))
    if found is not None:
        return found
    return replace(
        packed,
        codes=packed.codes.to(device),
        scales=None if packed.scales is None else packed.scales.to(device),
        zeros=None if packed.zeros is None else packed.zeros.to(device),
    )


class RowEmbedding(nn.Module):
    """An embedding in few bits, whose rows are widened when a token asks for them.

    `weight` holds nothing: it tells those who ask for it the dtype and the device of the model.
    """

    def __init__(self, packed: lowbit.Packed | GpuMatrix, like: Tensor) -> None:
        super().__init__()
        self.packed = packed
        self.weight = nn.Parameter(like.new_empty(0), requires_grad=False)

    def forward(self, ids: Int[Tensor, "*B"]) -> Float[Tensor, "*B D"]:
        """Return the rows of these tokens."""
        return self.packed.rows(ids).to(self.weight.device, self.weight.dtype)
