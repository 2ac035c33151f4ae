"""Triton kernels of a decoding step: what stands between the products, one launch each.

Every row of a step is the next token of one sequence, whose keys and values lie in pages [P, K, Z,
E]. The order of roundings is that of puna.model.llama. puna.ops.gpu.step launches these and holds
the torch reference of each.
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def norm_kernel(
    x, more, weight, total, y, EPS, D: tl.constexpr, HAS_MORE: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """One row: total = x + more, y = norm(total) weight."""
    at = tl.program_id(0).to(tl.int64) * D + tl.arange(0, BLOCK)
    d = tl.arange(0, BLOCK)
    inside = d < D
    given = tl.load(x + at, mask=inside, other=0.0)
    if HAS_MORE:
        added = given.to(tl.float32) + tl.load(more + at, mask=inside, other=0.0).to(tl.float32)
        given = added.to(given.dtype)
        tl.store(total + at, given, mask=inside)
    wide = given.to(tl.float32)
    scale = 1.0 / tl.sqrt_rn(tl.sum(wide * wide, axis=0) / D + EPS)
    normed = (wide * scale).to(given.dtype).to(tl.float32)
    factor = tl.load(weight + d, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + at, (normed * factor).to(given.dtype), mask=inside)


@triton.jit
@no_type_check
def turn_kernel(
    qkv, cos, sin, held, tables, q, keys, values, TABLE,
    H: tl.constexpr, K: tl.constexpr, E: tl.constexpr, Z: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One head of one row: turn queries and keys, and put keys and values into their page."""
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    HALF: tl.constexpr = E // 2
    e = tl.arange(0, BLOCK)
    inside = e < HALF
    begin = qkv + (row * (H + 2 * K) + head) * E
    first = tl.load(begin + e, mask=inside, other=0.0)
    second = tl.load(begin + HALF + e, mask=inside, other=0.0)
    kind = first.dtype
    if head < H + K:
        c = tl.load(cos + row * HALF + e, mask=inside, other=0.0)
        s = tl.load(sin + row * HALF + e, mask=inside, other=0.0)
        wide, other = first.to(tl.float32), second.to(tl.float32)
        first, second = (wide * c - other * s).to(kind), (other * c + wide * s).to(kind)
    if head < H:
        into = q + (row * H + head) * E
        tl.store(into + e, first, mask=inside)
        tl.store(into + HALF + e, second, mask=inside)
    else:
        place = tl.load(held + row)
        page = tl.load(tables + row * TABLE + place // Z).to(tl.int64)
        lane = (head - H) % K
        at = ((page * K + lane) * Z + place % Z) * E
        kept = e < tl.where(page >= 0, HALF, 0)  # a row that only fills a step has no page
        if head < H + K:
            tl.store(keys + at + e, first, mask=kept)
            tl.store(keys + at + HALF + e, second, mask=kept)
        else:
            tl.store(values + at + e, first, mask=kept)
            tl.store(values + at + HALF + e, second, mask=kept)


@triton.jit
@no_type_check
def attend_kernel(
    q, keys, values, held, tables, sums, peaks, shares, TABLE, SCALE,
    H: tl.constexpr, K: tl.constexpr, E: tl.constexpr, Z: tl.constexpr,
    SPLITS: tl.constexpr, GROUP: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_Z: tl.constexpr,
):  # fmt: skip
    """The query heads of one kv head over every SPLITS-th page: sums, and what they are worth."""
    row, lane, split = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    h, e, z = tl.arange(0, GROUP), tl.arange(0, BLOCK_E), tl.arange(0, BLOCK_Z)
    is_head, is_wide = h < H // K, e < E
    head = row * H + lane * (H // K) + h
    mask = is_head[:, None] & is_wide[None, :]
    query = tl.load(q + head[:, None] * E + e[None, :], mask=mask, other=0.0)
    length = tl.load(held + row) + 1
    peak = tl.full((GROUP,), -1e30, dtype=tl.float32)
    share = tl.zeros((GROUP,), dtype=tl.float32)
    total = tl.zeros((GROUP, BLOCK_E), dtype=tl.float32)
    for page in range(split, (length + Z - 1) // Z, SPLITS):
        place = tl.maximum(tl.load(tables + row * TABLE + page), 0).to(tl.int64)
        at = ((place * K + lane) * Z + z)[:, None] * E + e[None, :]
        seen = (z < Z) & (page * Z + z < length)
        both = seen[:, None] & is_wide[None, :]
        key = tl.load(keys + at, mask=both, other=0.0)
        score = tl.dot(query, tl.trans(key), input_precision="ieee") * SCALE
        score = tl.where(seen[None, :], score, float("-inf"))
        higher = tl.maximum(peak, tl.max(score, axis=1))
        weight = tl.exp(score - higher[:, None])
        fade = tl.exp(peak - higher)
        value = tl.load(values + at, mask=both, other=0.0)
        share = share * fade + tl.sum(weight, axis=1)
        total = total * fade[:, None]
        total = tl.dot(weight.to(value.dtype), value, total, input_precision="ieee")
        peak = higher
    into = head * SPLITS + split
    tl.store(sums + into[:, None] * E + e[None, :], total, mask=mask)
    tl.store(peaks + into, peak, mask=is_head)
    tl.store(shares + into, share, mask=is_head)


@triton.jit
@no_type_check
def gather_kernel(
    sums, peaks, shares, y, E: tl.constexpr, SPLITS: tl.constexpr, BLOCK_S: tl.constexpr,
    BLOCK_E: tl.constexpr,
):  # fmt: skip
    """One head of one row: weigh the sums of the splits by what they are worth."""
    head = tl.program_id(0).to(tl.int64)
    s, e = tl.arange(0, BLOCK_S), tl.arange(0, BLOCK_E)
    is_split, is_wide = s < SPLITS, e < E
    peak = tl.load(peaks + head * SPLITS + s, mask=is_split, other=-1e30)
    share = tl.load(shares + head * SPLITS + s, mask=is_split, other=0.0)
    mask = is_split[:, None] & is_wide[None, :]
    part = tl.load(sums + (head * SPLITS + s)[:, None] * E + e[None, :], mask=mask, other=0.0)
    weight = tl.exp(peak - tl.max(peak, axis=0))
    whole = tl.sum(weight * share, axis=0)
    out = tl.sum(part * weight[:, None], axis=0) / whole
    tl.store(y + head * E + e, out.to(y.dtype.element_ty), mask=is_wide)


@triton.jit
@no_type_check
def gate_kernel(both, y, F: tl.constexpr, BLOCK: tl.constexpr):
    """One run of one row: y = silu(gate) up, of a row that holds gate and then up."""
    row, f = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = f < F
    gate = tl.load(both + row * 2 * F + f, mask=inside, other=0.0)
    up = tl.load(both + row * 2 * F + F + f, mask=inside, other=0.0).to(tl.float32)
    wide = gate.to(tl.float32)
    opened = (wide / (1.0 + tl.exp(-wide))).to(gate.dtype).to(tl.float32)
    tl.store(y + row * F + f, (opened * up).to(gate.dtype), mask=inside)
