"""GGUF's quantized blocks as the panels of the kernels, a few rows at a time.

A model begins to run when its codes lie in panels. native/gguf.cpp brings them there; without the
extension torch does, by whole 32-bit words and with the same result to the bit. Beside the panels
only a run of rows is in memory. What the codes mean stands in puna.checkpoint.gguf_codes, which is
the slow and readable reference.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from puna.checkpoint.gguf_bits import Blocks, cut, half
from puna.checkpoint.gguf_blocks import TYPES
from puna.checkpoint.gguf_codes import FORMS, codes_of, flat_q4_k, grid_q4_k
from puna.ops import native
from puna.ops.lowbit import LANES, Packed, of_panels, unit_of

_RUN_BYTES = 1 << 20  # of rows that torch lays out together; they stay in the cache of a core
_MAPPED_BYTES = 1 << 24  # of rows that are in memory while the threads of native/ lay them out
_LARGEST_ZERO = 2.0**15  # the kernels keep zeros in half precision
_NIBBLES, _PAIRS = 0x0F0F0F0F, 0x03030303  # the same bits of each of a word's four bytes
_PLUS_128 = -0x7F7F7F80  # 0x80808080 as a signed number; its exclusive or adds 128 to each byte
_PLUS_96 = 0x60606060  # 128, less the 32 that Q6_K stores its codes plus

Rows = Callable[[int, int], Tensor]  # the bytes of a run of rows, [rows, bytes]
Check = Callable[[Tensor, Tensor | None], None]
Grid = tuple[Tensor, Tensor | None]  # scales and zeros [rows, groups]


def panels_of(
    kind: str,
    rows_of: Rows,
    shape: tuple[int, int],
    check: Check,
) -> Packed | None:
    """Return a matrix of blocks as the kernels read it; None: they hold no such code.

    Args:
        rows_of: reads the rows from one number to another.
        check: stops on scales and zeros that are no numbers.
    """
    if native.level() is not None and kind in _WORDS:
        return _by_threads(kind, rows_of, shape, check)
    form, group = FORMS[kind]
    rows, columns = shape
    words = columns // (8 if form == "int4" else 4)
    lanes = torch.empty(-(-rows // LANES), words, LANES, dtype=torch.int32)
    grids: list[Grid] = []
    for start, stop in _runs(kind, shape, _RUN_BYTES):
        blocks = rows_of(start, stop).view(-1, TYPES[kind].bytes)
        found, (scales, zeros) = _laid(kind, blocks)
        if kind == "Q8_0" and bool((found.view(torch.uint8) == 0).any()):
            return None  # a code of -128
        found = found.view(stop - start, words)
        missing = -(stop - start) % LANES
        if missing:
            found = torch.nn.functional.pad(found, (0, 0, 0, missing))
        target = lanes[start // LANES : start // LANES + found.shape[0] // LANES]
        target.copy_(found.view(-1, LANES, words).transpose(1, 2))
        per_row = (stop - start, columns // group)
        grids.append((scales.view(per_row), None if zeros is None else zeros.view(per_row)))
    scales = torch.cat([scales for scales, _ in grids])
    kept = [zeros for _, zeros in grids if zeros is not None]
    zeros = torch.cat(kept) if kept else None
    check(scales, zeros)
    if zeros is not None and float(zeros.abs().max()) > _LARGEST_ZERO:
        return None
    return of_panels(form, lanes[..., None].view(torch.uint8), shape, scales, zeros, group)


def _laid(kind: str, blocks: Blocks) -> tuple[Tensor, Grid]:
    """Return the words of some blocks, and their scales and zeros."""
    if kind in _WORDS:
        return _WORDS[kind](blocks), _GRIDS[kind](blocks)
    made = codes_of(kind, blocks, blocks.shape[0])
    if made.format == "int8":
        words = (made.codes.view(torch.uint8) ^ 128).view(torch.int32)
    else:
        fours = made.codes.view(torch.int32).view(len(blocks), -1, 2)
        words = fours[..., 0] | (fours[..., 1] << 4)
    return words, (made.scales, made.zeros)


def _by_threads(kind: str, rows_of: Rows, shape: tuple[int, int], check: Check) -> Packed | None:
    """Do the same in native/gguf.cpp: it gives codes, and scales and zeros in float32.

    The power of two that scales are kept in is that of the largest, known when all rows are laid.
    """
    form, group = FORMS[kind]
    rows, columns = shape
    panels, words = -(-rows // LANES), columns // (8 if form == "int4" else 4)
    codes = torch.empty(panels, words, LANES, dtype=torch.int32)
    scales = torch.empty(panels, columns // group, LANES)
    zeros = torch.empty_like(scales) if kind == "Q4_K" else None
    holds, peaks = True, torch.zeros(2)  # the largest scale and zero
    for start, stop in _runs(kind, shape, _MAPPED_BYTES):
        raw, first = rows_of(start, stop).contiguous(), start // LANES
        targets = (part if part is None else part[first:] for part in (codes, scales, zeros))
        known, *found = native.extension().lay_blocks(
            TYPES[kind].code, raw.data_ptr(), stop - start, columns,
            *map(native.address, targets), native.threads(),
        )  # fmt: skip
        holds, peaks = holds and known, torch.maximum(peaks, torch.tensor(found))
    check(peaks, None)
    if not holds or float(peaks[1]) > _LARGEST_ZERO:
        return None
    unit = unit_of(peaks[0])
    return Packed(
        format=form,
        out=rows,
        inner=columns,
        group=group,
        codes=codes[..., None].view(torch.uint8),
        scales=scales.div_(unit).half(),
        zeros=None if zeros is None else zeros.half(),
        scale_unit=unit,
    )


def _runs(kind: str, shape: tuple[int, int], run_bytes: int) -> Iterator[tuple[int, int]]:
    """Cut a matrix into runs of whole panels, of about so many bytes."""
    step = max(1, run_bytes // TYPES[kind].row_bytes(shape[1]) // LANES) * LANES
    for start in range(0, shape[0], step):
        yield start, min(shape[0], start + step)


def _words_q4_0(blocks: Blocks) -> Int[Tensor, "N 1 4"]:
    return _paired(cut(blocks, 2).view(torch.int32).view(-1, 1, 2, 2))


def _words_q4_k(blocks: Blocks) -> Int[Tensor, "N 8 4"]:
    words = _paired(cut(blocks, 16).view(torch.int32).view(-1, 4, 4, 2)).view(-1, 8, 4)
    flat = flat_q4_k(blocks)
    return words.masked_fill_(flat[..., None], 0) if bool(flat.any()) else words


def _paired(given: Int[Tensor, "N runs words 2"]) -> Int[Tensor, "N runs words"]:
    """Pair the nibbles of four bytes with those of the next four: first all low ones, then high."""
    low, high = given & _NIBBLES, (given >> 4) & _NIBBLES
    halves = [part[..., 0] | (part[..., 1] << 4) for part in (low, high)]
    return torch.cat(halves, dim=2)


def _words_q8_0(blocks: Blocks) -> Int[Tensor, "N 8"]:
    return cut(blocks, 2).view(torch.int32) ^ _PLUS_128


def _words_q6_k(blocks: Blocks) -> Int[Tensor, "N 2 4 8"]:
    """Join four low bits and two high ones: four runs of 32 codes share 32 bytes of high bits."""
    N = blocks.shape[0]
    low = cut(blocks, 0, 128).view(torch.int32).view(N, 2, 2, 8)
    high = cut(blocks, 128, 192).view(torch.int32).view(N, 2, 8)
    runs = [
        ((low[:, :, run % 2] >> (4 * (run // 2))) & _NIBBLES)
        | (((high >> (2 * run)) & _PAIRS) << 4)
        for run in range(4)
    ]
    return torch.stack(runs, dim=2) + _PLUS_96


def _scales_q6_k(blocks: Blocks) -> Grid:
    steps = cut(blocks, 192, 208).view(torch.int8)
    return half(blocks[:, 208:210]) * steps.float(), None


def _scales_first(blocks: Blocks) -> Grid:
    return half(blocks[:, :2]), None


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
