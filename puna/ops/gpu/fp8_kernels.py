"""Triton kernels of the FP8 recipe: rows to e4m3 in one pass, and one row times a matrix in e4m3.

puna.quant.fp8 says what the numbers are (`quantize_rows`, `fp8_product_reference`) and launches
them. torch has the product of many rows (`torch._scaled_mm`), which a single row would fill badly.
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def e4m3_of(value):
    """Return the bits of the e4m3 number nearest to a float of at most 448, ties to even.

    The numbers of a binade lie 2^-3 of it apart, those below 2^-6 lie 2^-9 apart: adding and taking
    away 1.5 2^23 such steps rounds. Triton's own cast carries wrongly in its interpreter (3.9).
    """
    number = tl.where(value != value, 0.0, value)
    bits = number.to(tl.int32, bitcast=True)
    binade = tl.maximum(bits & 0x7F800000, 121 << 23)  # 2^-6, the smallest normal number
    magic = (binade + (20 << 23)).to(tl.float32, bitcast=True) * 1.5
    near = tl.abs((number + magic) - magic)
    normal = (near.to(tl.int32, bitcast=True) >> 20) - (120 << 3)  # of bias 127 and of bias 7
    code = tl.where(near < 0.015625, (near * 512.0).to(tl.int32), normal)
    code = tl.where(value != value, 127, code)
    return (code | ((bits >> 24) & 128)).to(tl.uint8)


@triton.jit
@no_type_check
def round_kernel(
    x, codes, scales, K, BOUND, SMALLEST, HAS_BOUND: tl.constexpr, BLOCK: tl.constexpr
):
    """One row: scale = min(max|x|, bound) / 448, code = e4m3(x 448 / that), saturated."""
    row = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, BLOCK)
    value = tl.load(x + row * K + k, mask=k < K, other=0.0).to(tl.float32)
    size = tl.abs(value)
    is_none = tl.max((value != value).to(tl.int32), axis=0) > 0
    largest = tl.maximum(tl.max(tl.where(value != value, 0.0, size), axis=0), SMALLEST)
    if HAS_BOUND:
        largest = tl.minimum(largest, BOUND)
    largest = tl.where(is_none, float("nan"), largest)
    code = value * tl.div_rn(448.0, largest)
    code = tl.where(code > 448.0, 448.0, tl.where(code < -448.0, -448.0, code))
    tl.store(codes + row * K + k, e4m3_of(code), mask=k < K)
    tl.store(scales + row, tl.div_rn(largest, 448.0))


@triton.jit
@no_type_check
def fp8_row_kernel(
    x, x_scale, weight, scales, y, N, K, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr
):  # fmt: skip
    """One row: y[n] = x_scale scale[n] sum_k x[k] weight[n, k], rounded to bfloat16."""
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_row = n < N
    row = n.to(tl.int64)[:, None]
    total = tl.zeros((BLOCK_N, BLOCK_K), dtype=tl.float32)
    for start in range(0, K, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        inside = is_row[:, None] & (k < K)[None, :]
        part = tl.load(weight + row * K + k[None, :], mask=inside, other=0.0).to(tl.float32)
        given = tl.load(x + k, mask=k < K, other=0.0).to(tl.float32)
        total += tl.where(inside, part * given[None, :], 0.0)
    out = tl.sum(total, axis=1) * tl.load(scales + n, mask=is_row, other=0.0)
    out *= tl.load(x_scale)
    tl.store(y + n, out.to(y.dtype.element_ty), mask=is_row)
