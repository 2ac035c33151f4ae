"""Launching the kernels: how large their tiles are, and where their results go.

Sizes are functions of the shape alone, so that a result does not depend on what ran before. They
were chosen by counting registers and bytes in flight, not by measuring: bench/gpu.py is what to
tune them with.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from puna.ops.gpu.choice import gpu_of, lowbit_product
from puna.ops.gpu.matrix import BITS, GpuMatrix

SPLIT_ROWS = 16  # up to so many rows, the inputs of a product are divided among programs
_PROGRAMS = 264  # that a product of few rows should at least have: two for each part of an H200


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """The share of one program."""

    block_m: int
    block_n: int
    block_words: int
    splits: int = 1
    warps: int = 4
    stages: int = 3

    def split_words(self, words: int) -> int:
        """Return the words of a row that one split reads, whole blocks of them."""
        blocks = -(-words // self.block_words)
        return -(-blocks // self.splits) * self.block_words


def row_tiling(matrix: GpuMatrix) -> Tiling:
    """Return the tiles for one row: a warp each, whose threads share inputs without barriers."""
    words = 128 if matrix.words.shape[1] >= 128 else 32
    return Tiling(block_m=1, block_n=4, block_words=words, warps=1)


def tiling(rows: int, matrix: GpuMatrix) -> Tiling:
    """Return the tiles for several rows."""
    if rows <= SPLIT_ROWS:
        blocks = -(-matrix.words.shape[1] // 32)
        wanted = -(-_PROGRAMS // -(-matrix.out // 64))
        splits = max(1, min(wanted, blocks, 8))
        return Tiling(block_m=16, block_n=64, block_words=32, splits=splits)
    if rows <= 64:
        return Tiling(block_m=-(-rows // 32) * 32, block_n=64, block_words=32)
    return Tiling(block_m=128, block_n=128, block_words=16, warps=8)


def product(x: Float[Tensor, "*n inner"], matrix: GpuMatrix) -> Float[Tensor, "*n out"]:
    """Return `x` times the matrix transposed, in the dtype of `x`; inputs are not rounded."""
    rows = x.detach().reshape(-1, matrix.inner)
    kind = lowbit_product(gpu_of(x.device), rows=len(rows), inner=matrix.inner, group=matrix.group)
    if kind == "row":
        y = row_product(rows, matrix)
    elif kind == "tiles":
        y = tile_product(rows, matrix, tiling(len(rows), matrix))
    else:
        y = product_reference(rows, matrix)
    return y.view(*x.shape[:-1], matrix.out)


def product_reference(x: Float[Tensor, "m inner"], matrix: GpuMatrix) -> Float[Tensor, "m out"]:
    """Compute the product as it is defined: given inputs, true weights, sums in float32."""
    return (x.float() @ matrix.dequantize().T).to(x.dtype)


def row_product(x: Float[Tensor, "1 inner"], matrix: GpuMatrix) -> Float[Tensor, "1 out"]:
    """Multiply one row."""
    from puna.ops.gpu.products import row_kernel

    tiles = row_tiling(matrix)
    y = torch.empty(1, matrix.out, dtype=x.dtype, device=x.device)
    row_kernel[(-(-matrix.out // tiles.block_n),)](
        x.contiguous(), matrix.words, matrix.scales, matrix.zeros, matrix.units, y,
        matrix.out, matrix.inner, matrix.words.shape[1], matrix.group_words,
        BITS[matrix.format], matrix.zeros is not None, tiles.block_n, tiles.block_words,
        num_warps=tiles.warps, num_stages=tiles.stages,
    )  # fmt: skip
    return y


def tile_product(
    x: Float[Tensor, "m inner"], matrix: GpuMatrix, tiles: Tiling
) -> Float[Tensor, "m out"]:
    """Multiply several rows; sums of splits are added in their order."""
    from puna.ops.gpu.products import tile_kernel

    rows, words = len(x), matrix.words.shape[1]
    share = tiles.split_words(words)
    splits = -(-words // share)
    kind = x.dtype if splits == 1 else torch.float32
    y = torch.empty(splits, rows, matrix.out, dtype=kind, device=x.device)
    grid = -(-rows // tiles.block_m), -(-matrix.out // tiles.block_n), splits
    tile_kernel[grid](
        x.contiguous(), matrix.words, matrix.scales, matrix.zeros, matrix.units, y,
        rows, matrix.out, matrix.inner, share, words, matrix.group_words,
        BITS[matrix.format], matrix.zeros is not None,
        tiles.block_m, tiles.block_n, tiles.block_words,
        num_warps=tiles.warps, num_stages=tiles.stages,
    )  # fmt: skip
    return y[0] if splits == 1 else y.sum(0).to(x.dtype)
