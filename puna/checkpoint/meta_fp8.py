"""The fp8 release of Meta: feed-forward matrices of one byte, and scales in files beside them.

`fp8_scales_{rank}.pt` holds for every matrix of its shard one scale for each output row, under
`{layer}_feed_forward.{w1|w2|w3}_{rank}`. w2 is cut by columns, so each of its rows has as many
scales as there are shards. Source: Meta's llama-models, quantization loader.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from puna.checkpoint.meta_shards import load_pickle
from puna.checkpoint.stored import StoredTensor
from puna.errors import FormatError
from puna.quant.fp8 import E4M3, Fp8Weight

_MATRIX = re.compile(r"layers\.(\d+)\.(feed_forward\.w[123])\.weight")
_ONE_BYTE = ("F8_E4M3", "I8", "U8")  # by which name the bytes were saved


def scales_file(folder: Path, rank: int) -> Path:
    """Return where the scales of a shard lie."""
    return folder / f"fp8_scales_{rank}.pt"


def scale_key(name: str, rank: int) -> str | None:
    """Return the name of a matrix's scales, None for a tensor that is never fp8."""
    match = _MATRIX.fullmatch(name)
    return None if match is None else f"{match[1]}_{match[2]}_{rank}"


def read_scales(folder: Path, shards: int) -> list[dict[str, Tensor]]:
    """Read the scales of all shards; an empty list where the folder is not fp8.

    Raises:
        FormatError: some shards have scales and others none.
    """
    there = [scales_file(folder, rank).exists() for rank in range(shards)]
    if not any(there):
        return []
    if not all(there):
        raise FormatError(
            f"{scales_file(folder, there.index(False))}: it is missing beside the scales of other "
            "shards. Download it again."
        )
    return [load_pickle(scales_file(folder, rank)) for rank in range(shards)]


def with_scales(
    name: str, stored: StoredTensor, scales: Sequence[Mapping[str, Tensor]], folder: Path
) -> StoredTensor:
    """Give a matrix of one byte its scales; other tensors stay as they are.

    Raises:
        FormatError: a matrix has no scales, or scales of another shape.
    """
    if stored.dtype not in _ONE_BYTE:
        return stored
    parts = []
    for rank, table in enumerate(scales):
        part = table.get(scale_key(name, rank) or "")
        if part is None:
            raise FormatError(
                f"{folder}: '{name}' is stored in one byte and {scales_file(folder, rank).name} "
                "has no scales for it. The files do not belong together."
            )
        parts.append(part.float().reshape(-1, 1))
    rows = stored.shape[0]
    is_cut_by_rows = not name.endswith("w2.weight")
    joined = torch.cat(parts, dim=0 if is_cut_by_rows else 1)
    if joined.shape[0] != rows or not bool((joined.isfinite() & (joined >= 0)).all()):
        raise FormatError(
            f"{folder}: '{name}' has {joined.shape[0]} scales for {rows} rows, or scales that are "
            "no numbers. The files do not belong together."
        )
    low = partial(_low, stored, joined)
    return replace(
        stored,
        dtype="F8_E4M3",
        read=lambda dtype: low().weight().to(dtype or torch.float32),
        low=low,
    )


def _low(stored: StoredTensor, scales: Tensor) -> Fp8Weight:
    return Fp8Weight(codes=stored.read(None).view(E4M3), scales=scales)


def cut(low: Fp8Weight, name: str, rank: int, shards: int) -> tuple[Tensor, Tensor]:
    """Return the bytes and the scales of one shard's part of a matrix."""
    if name.endswith("w2.weight"):
        at = rank if low.scales.shape[1] == shards else 0
        return low.codes.chunk(shards, 1)[rank].contiguous(), low.scales[:, at].clone()
    return low.codes.chunk(shards, 0)[rank].clone(), low.scales.chunk(shards, 0)[rank][:, 0].clone()
