"""What stands between the products of a decoding step: norm, rotation, attention, gate.

Each function computes by one or two Triton kernels where `fused` says so, else in torch, which is
the reference. Rows are the next tokens of B sequences; `Pages` says where their past lies. Nothing
here reads a number back from the device, so that a step can be recorded as a CUDA graph.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from puna.ops.norm import rms_norm
from puna.ops.rope import rotate

_PROGRAMS = 264  # that attention should at least have: two for each multiprocessor of an H200
_MOST_SPLITS = 32
_GATE_BLOCK = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """Where the tokens of each row lie; the tensors are those of a recorded step, and stay."""

    held: Int[Tensor, "B"]  # int32: tokens before the one that is read
    tables: Int[Tensor, "B pages"]  # int32; -1 in a row that only fills the step
    cos: Float[Tensor, "B E_half"]
    sin: Float[Tensor, "B E_half"]


def add_and_norm(
    x: Float[Tensor, "B D"],
    more: Float[Tensor, "B D"] | None,
    weight: Float[Tensor, "D"],
    eps: float,
    *,
    fused: bool,
) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
    """Return the residual stream after `more`, and its normalised copy."""
    if not fused:
        total = x if more is None else x + more
        return total, rms_norm(total, weight, eps)
    from puna.ops.gpu.step_kernels import norm_kernel

    width = x.shape[1]
    total = x if more is None else torch.empty_like(x)
    y = torch.empty_like(x)
    block = _power_of_two(width)
    norm_kernel[(len(x),)](
        x, more, weight, total, y, eps, width, more is not None, block,
        num_warps=8 if block >= 4096 else 4,
    )  # fmt: skip
    return total, y


def turn_and_store(
    qkv: Float[Tensor, "B both"],
    pages: Pages,
    keys: Float[Tensor, "P K Z E"],
    values: Float[Tensor, "P K Z E"],
    *,
    heads: int,
    fused: bool,
) -> Float[Tensor, "B H E"]:
    """Return the turned queries; keys and values go into their pages."""
    B, (_, K, Z, E) = len(qkv), keys.shape
    if not fused:
        parts = torch.split(qkv.view(B, 1, heads + 2 * K, E), [heads, K, K], dim=2)
        cos, sin = pages.cos[:, None, None], pages.sin[:, None, None]
        q, k = (rotate(part, cos, sin)[:, 0] for part in parts[:2])
        held = pages.held.long()
        page = pages.tables.gather(1, (held // Z)[:, None])[:, 0].long()
        real = page >= 0
        keys[page[real], :, (held % Z)[real]] = k[real]
        values[page[real], :, (held % Z)[real]] = parts[2][:, 0][real]
        return q
    from puna.ops.gpu.step_kernels import turn_kernel

    q = torch.empty(B, heads, E, dtype=qkv.dtype, device=qkv.device)
    turn_kernel[(B, heads + 2 * K)](
        qkv, pages.cos, pages.sin, pages.held, pages.tables, q, keys, values,
        pages.tables.shape[1], heads, K, E, Z, _power_of_two(E // 2), num_warps=1,
    )  # fmt: skip
    return q


def attend_pages(
    q: Float[Tensor, "B H E"],
    pages: Pages,
    keys: Float[Tensor, "P K Z E"],
    values: Float[Tensor, "P K Z E"],
    *,
    fused: bool,
) -> Float[Tensor, "B H E"]:
    """Let each row read its own past and itself, page by page where they lie."""
    B, H, E = q.shape
    _, K, Z, _ = keys.shape
    if not fused:
        return _attend_reference(q, pages, keys, values)
    from puna.ops.gpu.step_kernels import attend_kernel, gather_kernel

    table = pages.tables.shape[1]
    splits = max(1, min(-(-_PROGRAMS // (B * K)), table, _MOST_SPLITS))
    sums = torch.empty(B, H, splits, E, device=q.device)
    peaks, shares = (torch.empty(B, H, splits, device=q.device) for _ in range(2))
    wide = max(16, _power_of_two(E))
    attend_kernel[(B, K, splits)](
        q, keys, values, pages.held, pages.tables, sums, peaks, shares, table, E**-0.5,
        H, K, E, Z, splits, max(16, _power_of_two(H // K)), wide, max(16, _power_of_two(Z)),
        num_warps=4, num_stages=2,
    )  # fmt: skip
    y = torch.empty_like(q)
    gather_kernel[(B * H,)](
        sums, peaks, shares, y, E, splits, _power_of_two(splits), wide, num_warps=1
    )
    return y


def _attend_reference(q: Tensor, pages: Pages, keys: Tensor, values: Tensor) -> Tensor:
    """Gather every page of the tables and attend under a mask."""
    B, H, E = q.shape
    K = keys.shape[1]
    place = pages.tables.clamp_min(0).long()
    k, v = (part[place].transpose(2, 3).flatten(1, 2) for part in (keys, values))  # [B, S, K, E]
    seen = torch.arange(k.shape[1], device=q.device) <= pages.held[:, None]
    k, v = (part.masked_fill(~seen[:, :, None, None], 0) for part in (k, v))
    grouped = q.view(B, K, H // K, E)
    out = F.scaled_dot_product_attention(
        grouped, k.transpose(1, 2), v.transpose(1, 2), attn_mask=seen[:, None, None]
    )
    return out.reshape(B, H, E)


def gated(both: Float[Tensor, "B FF"], *, fused: bool) -> Float[Tensor, "B F"]:
    """Return silu(gate) up, of rows that hold gate and then up."""
    width = both.shape[1] // 2
    if not fused:
        gate, up = both.chunk(2, dim=1)
        return F.silu(gate) * up
    from puna.ops.gpu.step_kernels import gate_kernel

    y = torch.empty(len(both), width, dtype=both.dtype, device=both.device)
    gate_kernel[(len(both), -(-width // _GATE_BLOCK))](both, y, width, _GATE_BLOCK)
    return y


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()
