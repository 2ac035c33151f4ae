"""Launching the FP8 kernels; puna.quant.fp8 decides when."""

import torch
from jaxtyping import Float
from torch import Tensor

_BLOCK_K = 512  # bytes that 32 threads load at once


def round_rows(
    x: Float[Tensor, "*n inner"], bound: float | None, smallest: float
) -> tuple[Float[Tensor, "*n inner"], Float[Tensor, "*n 1"]]:
    """Return e4m3 codes and the scale of each row, as puna.quant.fp8.quantize_rows does."""
    from puna.ops.gpu.fp8_kernels import round_kernel

    inner = x.shape[-1]
    rows = x.reshape(-1, inner).contiguous()
    codes = torch.empty(x.shape, dtype=torch.float8_e4m3fn, device=x.device)
    scales = torch.empty(*x.shape[:-1], 1, device=x.device)
    block = 1 << (inner - 1).bit_length()
    if len(rows):
        round_kernel[(len(rows),)](
            rows, codes.view(torch.uint8), scales, inner, 0.0 if bound is None else bound, smallest,
            bound is not None, block, num_warps=8 if block >= 4096 else 4,
        )  # fmt: skip
    return codes, scales


def fp8_row_product(
    x: Float[Tensor, "1 inner"],
    x_scales: Float[Tensor, "1 1"],
    weight: Float[Tensor, "out inner"],
    weight_scales: Float[Tensor, "out 1"],
) -> Float[Tensor, "1 out"]:
    """Multiply one row of e4m3 codes by a matrix of them; bfloat16 comes out."""
    from puna.ops.gpu.fp8_kernels import fp8_row_kernel

    out, inner = weight.shape
    y = torch.empty(1, out, dtype=torch.bfloat16, device=x.device)
    block_n = 4
    fp8_row_kernel[(-(-out // block_n),)](
        x, x_scales, weight, weight_scales.contiguous(), y, out, inner, block_n, _BLOCK_K,
        num_warps=1,
    )  # fmt: skip
    return y
