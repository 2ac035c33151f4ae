"""Triton kernels: rows times a matrix of int8 or int4 codes, widened in registers.

A code becomes a float without a conversion: set beneath the exponent of 2^23 it *is* the mantissa,
and a subtraction takes 2^23 and the middle code away again, exactly. `row_kernel` is for one row:
each word is read once and meets its inputs in float32. `tile_kernel` widens a tile to the dtype of
the inputs for the matrix units; few rows divide the inputs among programs, whose sums are added in
a fixed order. puna.ops.gpu.run launches them; the reference is `GpuMatrix.dequantize`.
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def codes_of(words, j: tl.constexpr, BITS: tl.constexpr):
    """Return code j of every word less the middle code, times 2^(BITS (j mod 16/BITS))."""
    HALF: tl.constexpr = 16 // BITS
    SHIFT: tl.constexpr = BITS * (j % HALF)
    MASK: tl.constexpr = ((1 << BITS) - 1) << SHIFT
    AWAY: tl.constexpr = 8388608.0 + (1 << (BITS - 1 + SHIFT))
    part = words if j < HALF else words >> 16
    return ((part & MASK) | 0x4B000000).to(tl.float32, bitcast=True) - AWAY


@triton.jit
@no_type_check
def row_kernel(
    x, words, scales, zeros, units, y,
    N, INNER, W: tl.constexpr, GROUP_WORDS: tl.constexpr,
    BITS: tl.constexpr, HAS_ZEROS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """One row: y[n] = unit[n] sum_k x[k] (code[n, k] - zero) scale."""
    PER: tl.constexpr = 32 // BITS
    G: tl.constexpr = (W + GROUP_WORDS - 1) // GROUP_WORDS
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_row = n < N
    row = n.to(tl.int64)[:, None]
    total = tl.zeros((BLOCK_N, BLOCK_W), dtype=tl.float32)
    for start in range(0, W, BLOCK_W):
        w = start + tl.arange(0, BLOCK_W)
        inside = is_row[:, None] & (w < W)[None, :]
        part = tl.load(words + row * W + w[None, :], mask=inside, other=0)
        scale = tl.load(scales + row * G + (w // GROUP_WORDS)[None, :], mask=inside, other=0.0)
        sums = tl.zeros((BLOCK_N, BLOCK_W), dtype=tl.float32)
        if HAS_ZEROS:
            zero = tl.load(zeros + row * G + (w // GROUP_WORDS)[None, :], mask=inside, other=0.0)
            zero = zero.to(tl.float32)
        for j in tl.static_range(PER):
            k = (w // 4) * (4 * PER) + 4 * j + w % 4
            given = tl.load(x + k, mask=k < INNER, other=0.0).to(tl.float32)
            code = codes_of(part, j, BITS)
            if HAS_ZEROS:
                code -= zero * (1 << (BITS * (j % (16 // BITS))))
            sums += code * (given / (1 << (BITS * (j % (16 // BITS)))))[None, :]
        total += tl.where(inside, sums * scale.to(tl.float32), 0.0)
    unit = tl.load(units + n, mask=is_row, other=0.0)
    out = tl.sum(total, axis=1) * unit
    tl.store(y + n, out.to(y.dtype.element_ty), mask=is_row)


@triton.jit
@no_type_check
def tile_kernel(
    x, words, scales, zeros, units, y,
    M, N, INNER, SPLIT_WORDS, W: tl.constexpr, GROUP_WORDS: tl.constexpr,
    BITS: tl.constexpr, HAS_ZEROS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """Many rows: y[split, m, n], the products over the inputs of one split."""
    PER: tl.constexpr = 32 // BITS
    G: tl.constexpr = (W + GROUP_WORDS - 1) // GROUP_WORDS
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    split = tl.program_id(2)
    is_given, is_row = m < M, n < N
    column, line = n.to(tl.int64)[None, :], m.to(tl.int64)[:, None]
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(split * SPLIT_WORDS, min(W, (split + 1) * SPLIT_WORDS), BLOCK_W):
        w = start + tl.arange(0, BLOCK_W)
        inside = is_row[None, :] & (w < W)[:, None]
        part = tl.load(words + column * W + w[:, None], mask=inside, other=0)
        at = column * G + (w // GROUP_WORDS)[:, None]
        scale = tl.load(scales + at, mask=inside, other=0.0).to(tl.float32) * 3.0517578125e-05
        if HAS_ZEROS:
            zero = tl.load(zeros + at, mask=inside, other=0.0).to(tl.float32)
        for j in tl.static_range(PER):
            k = (w // 4) * (4 * PER) + 4 * j + w % 4
            mask = is_given[:, None] & (k < INNER)[None, :]
            given = tl.load(x + line * INNER + k[None, :], mask=mask, other=0.0)
            code = codes_of(part, j, BITS) / (1 << (BITS * (j % (16 // BITS))))
            if HAS_ZEROS:
                code -= zero
            wide = tl.where(inside, code * scale, 0.0).to(given.dtype)
            total = tl.dot(given, wide, total, input_precision="ieee")
    unit = tl.load(units + n, mask=is_row, other=0.0) * 32768.0
    into = y + (split.to(tl.int64) * M + line) * N + column
    out = (total * unit[None, :]).to(y.dtype.element_ty)
    tl.store(into, out, mask=is_given[:, None] & is_row[None, :])
