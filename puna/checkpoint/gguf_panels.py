"""GGUF's quantized blocks as the panels of the kernels, a few rows at a time.

A model begins to run when its codes lie in panels. Here they get there by whole 32-bit words: no
code is ever spread to a byte, and beside the panels only a run of rows is in memory. What the codes
mean stands in puna.checkpoint.gguf_codes, which is the slow and readable reference.
"""

from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor

from puna.checkpoint.gguf_blocks import TYPES, Blocks, half
from puna.checkpoint.gguf_codes import flat_q4_k, grid_q4_k
from puna.ops.lowbit import LANES, Format, Packed, of_panels

_RUN_BYTES = 1 << 20  # of rows that are laid out together; they stay in the cache of a core
_LARGEST_ZERO = 2.0**15  # the kernels keep zeros in half precision
_NIBBLES, _PAIRS = 0x0F0F0F0F, 0x03030303  # the same bits of each of a word's four bytes
_PLUS_128 = -0x7F7F7F80  # 0x80808080 as a signed number; its exclusive or adds 128 to each byte
_PLUS_96 = 0x60606060  # 128, less the 32 that Q6_K stores its codes plus

Rows = Callable[[int, int], Tensor]  # the bytes of a run of rows, [rows, bytes]
Grid = tuple[Tensor, Tensor | None]  # scales and zeros [rows, groups]


def panels_of(
    kind: str,
    rows_of: Rows,
    shape: tuple[int, int],
    check: Callable[[Tensor, Tensor | None], None],
) -> Packed | None:
    """Return a matrix of blocks as the kernels read it; None: they hold no such code.

    Args:
        rows_of: reads the rows from one number to another.
        check: stops on scales and zeros that are no numbers.
    """
    form, group = _FORMS[kind]
    rows, columns = shape
    words = columns // (8 if form == "int4" else 4)
    lanes = torch.empty(-(-rows // LANES), words, LANES, dtype=torch.int32)
    grids: list[Grid] = []
    step = max(1, _RUN_BYTES // TYPES[kind].row_bytes(columns) // LANES) * LANES
    for start in range(0, rows, step):
        stop = min(rows, start + step)
        blocks = rows_of(start, stop).view(-1, TYPES[kind].bytes)
        found = _WORDS[kind](blocks)
        if kind == "Q8_0" and bool((found.view(torch.uint8) == 0).any()):
            return None  # a code of -128
        found = found.view(stop - start, words)
        missing = -(stop - start) % LANES
        if missing:
            found = torch.nn.functional.pad(found, (0, 0, 0, missing))
        target = lanes[start // LANES : start // LANES + found.shape[0] // LANES]
        target.copy_(found.view(-1, LANES, words).transpose(1, 2))
        scales, zeros = _GRIDS[kind](blocks)
        per_row = (stop - start, columns // group)
        grids.append((scales.view(per_row), None if zeros is None else zeros.view(per_row)))
    scales = torch.cat([scales for scales, _ in grids])
    kept = [zeros for _, zeros in grids if zeros is not None]
    zeros = torch.cat(kept) if kept else None
    check(scales, zeros)
    if zeros is not None and float(zeros.abs().max()) > _LARGEST_ZERO:
        return None
    return of_panels(form, lanes[..., None].view(torch.uint8), shape, scales, zeros, group)


def _words_q4_0(blocks: Blocks) -> Int[Tensor, "N 1 4"]:
    return _paired(blocks[:, 2:].contiguous().view(torch.int32).view(-1, 1, 2, 2))


def _words_q4_k(blocks: Blocks) -> Int[Tensor, "N 8 4"]:
    words = _paired(blocks[:, 16:].contiguous().view(torch.int32).view(-1, 4, 4, 2)).view(-1, 8, 4)
    flat = flat_q4_k(blocks)
    return words.masked_fill_(flat[..., None], 0) if bool(flat.any()) else words


def _paired(given: Int[Tensor, "N runs words 2"]) -> Int[Tensor, "N runs words"]:
    """Pair the nibbles of four bytes with those of the next four: first all low ones, then high."""
    low, high = given & _NIBBLES, (given >> 4) & _NIBBLES
    halves = [part[..., 0] | (part[..., 1] << 4) for part in (low, high)]
    return torch.cat(halves, dim=2)


def _words_q8_0(blocks: Blocks) -> Int[Tensor, "N 8"]:
    return blocks[:, 2:].contiguous().view(torch.int32) ^ _PLUS_128


def _words_q6_k(blocks: Blocks) -> Int[Tensor, "N 2 4 8"]:
    """Join four low bits and two high ones: four runs of 32 codes share 32 bytes of high bits."""
    N = blocks.shape[0]
    low = blocks[:, :128].contiguous().view(torch.int32).view(N, 2, 2, 8)
    high = blocks[:, 128:192].contiguous().view(torch.int32).view(N, 2, 8)
    runs = [
        ((low[:, :, run % 2] >> (4 * (run // 2))) & _NIBBLES)
        | (((high >> (2 * run)) & _PAIRS) << 4)
        for run in range(4)
    ]
    return torch.stack(runs, dim=2) + _PLUS_96


def _scales_q6_k(blocks: Blocks) -> Grid:
    steps = blocks[:, 192:208].contiguous().view(torch.int8)
    return half(blocks[:, 208:210]) * steps.float(), None


def _scales_first(blocks: Blocks) -> Grid:
    return half(blocks[:, :2]), None


_FORMS: dict[str, tuple[Format, int]] = {
    "Q8_0": ("int8", 32),
    "Q4_0": ("int4", 32),
    "Q4_K": ("int4", 32),
    "Q6_K": ("int8", 16),
}
_WORDS: dict[str, Callable[[Blocks], Tensor]] = {
    "Q8_0": _words_q8_0,
    "Q4_0": _words_q4_0,
    "Q4_K": _words_q4_k,
    "Q6_K": _words_q6_k,
}
_GRIDS: dict[str, Callable[[Blocks], Grid]] = {
    "Q8_0": _scales_first,
    "Q4_0": _scales_first,
    "Q4_K": grid_q4_k,
    "Q6_K": _scales_q6_k,
}
