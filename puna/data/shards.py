"""Tokens on disk: flat little-endian files, where their documents begin, and which tokens train.

A folder of shards holds `index.json`, `tokens-00000.bin` ..., `documents.bin` (the first token of
each document) and, for dialogs, `mask-00000.bin` ... The stream is read by memory map, so that its
size on disk is not its size in memory.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from puna.errors import FormatError, NotFoundError
from puna.files import atomic_folder, write_json

Ids = npt.NDArray[np.integer[npt.NBitBase]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One document, or one row of dialogs, as tokens; `mask` marks those that are targets."""

    ids: Sequence[int]
    mask: Sequence[int] | None = None
    starts: Sequence[int] = (0,)  # where documents begin inside these ids


def write_shards(
    pieces: Iterable[Piece],
    folder: Path,
    *,
    vocab: int,
    shard_tokens: int = 100_000_000,
    facts: dict[str, object] | None = None,
) -> int:
    """Write pieces one after another and return the number of tokens.

    The folder appears only when it is complete. Memory holds one shard at most.

    Args:
        pieces: in the order in which training reads them.
        folder: where the shards go.
        vocab: ids lie below it; it decides between 16 and 32 bits a token.
        shard_tokens: a file is closed when it holds this many tokens.
        facts: kept in the index: source, sequence length, hashes.
    Raises:
        FormatError: an id lies outside the vocabulary.
    """
    dtype = np.dtype("<u2") if vocab <= 1 << 16 else np.dtype("<u4")
    total, counts = 0, list[int]()
    starts: list[npt.NDArray[np.int64]] = []
    masked: bool | None = None
    with atomic_folder(folder) as partial:
        ids_now, mask_now, size = list[Ids](), list[Ids](), 0
        for piece in pieces:
            ids = _checked(piece.ids, vocab)
            masked = piece.mask is not None
            starts.append(np.asarray(piece.starts, dtype=np.int64) + total)
            ids_now.append(ids.astype(dtype))
            if piece.mask is not None:
                mask_now.append(np.asarray(piece.mask, dtype=np.uint8))
            size, total = size + len(ids), total + len(ids)
            if size >= shard_tokens:
                _close(partial, len(counts), ids_now, mask_now)
                counts.append(size)
                ids_now, mask_now, size = [], [], 0
        if size or not counts:
            _close(partial, len(counts), ids_now, mask_now)
            counts.append(size)
        boundaries = np.concatenate(starts) if starts else np.zeros(0, dtype=np.int64)
        boundaries.astype("<i8").tofile(partial / "documents.bin")
        index = {
            "dtype": dtype.str,
            "tokens": total,
            "documents": len(boundaries),
            "shards": counts,
            "vocab": vocab,
            "masked": bool(masked),
            **(facts or {}),
        }
        write_json(partial / "index.json", index)
    return total


def _checked(given: Sequence[int], vocab: int) -> npt.NDArray[np.int64]:
    ids = np.asarray(given, dtype=np.int64)
    if ids.size and (ids.min() < 0 or ids.max() >= vocab):
        wrong = int(ids.min() if ids.min() < 0 else ids.max())
        raise FormatError(
            f"pack: token id {wrong} was given; ids lie below the vocabulary {vocab}. Use the "
            "tokenizer that belongs to the model."
        )
    return ids


class TokenStream:
    """All tokens of a folder of shards as one long row."""

    def __init__(self, folder: Path) -> None:
        try:
            index = json.loads((folder / "index.json").read_text())
        except FileNotFoundError as error:
            raise NotFoundError(
                f"{folder}: no index.json; a folder of token shards is expected. Run `puna pack`."
            ) from error
        except ValueError as error:
            raise _damaged(folder, str(error)) from error
        facts = ("tokens", "vocab", "dtype", "shards", "documents", "masked")
        if not isinstance(index, dict) or not index.keys() >= set(facts):
            raise _damaged(folder, f"{', '.join(facts)} should stand there")
        self.tokens: int = index["tokens"]
        self.vocab: int = index["vocab"]
        self.facts: dict[str, object] = index
        self.ends = np.cumsum([0, *index["shards"]])
        dtype = np.dtype(index["dtype"])
        count = range(len(index["shards"]))
        self._ids = [_map(folder / f"tokens-{i:05d}.bin", dtype, index["shards"][i]) for i in count]
        self._masks = [
            _map(folder / f"mask-{i:05d}.bin", np.dtype("u1"), index["shards"][i]) for i in count
        ] if index["masked"] else None  # fmt: skip
        self.starts = _map(folder / "documents.bin", np.dtype("<i8"), index["documents"])

    def ids(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return tokens start .. stop-1."""
        return self._slice(self._ids, start, stop)

    def mask(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return 1 for each token of start .. stop-1 that is a target, else 0."""
        if self._masks is None:
            return np.ones(stop - start, dtype=np.int64)
        return self._slice(self._masks, start, stop)

    def documents(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return for each token of start .. stop-1 the number of its document in the stream."""
        return np.searchsorted(self.starts, np.arange(start, stop), side="right") - 1

    def _slice(self, files: list[Ids], start: int, stop: int) -> npt.NDArray[np.int64]:
        parts = []
        shard = int(np.searchsorted(self.ends, start, side="right")) - 1
        while start < stop and shard < len(files):
            low, high = int(self.ends[shard]), int(self.ends[shard + 1])
            parts.append(files[shard][start - low : min(stop, high) - low])
            start, shard = min(stop, high), shard + 1
        return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, dtype=np.int64)


def _close(folder: Path, number: int, ids: list[Ids], mask: list[Ids]) -> None:
    """Write one shard's files."""
    empty = [np.zeros(0, dtype="<u2")]
    np.concatenate(ids or empty).tofile(folder / f"tokens-{number:05d}.bin")
    if mask:
        np.concatenate(mask).tofile(folder / f"mask-{number:05d}.bin")


def _damaged(folder: Path, why: str) -> FormatError:
    return FormatError(
        f"{folder}/index.json: the index of the shards is damaged ({why}). Delete the folder and "
        "pack again."
    )


def _map(path: Path, dtype: np.dtype[np.generic], count: int) -> Ids:
    """Map a flat file, after checking that it holds what the index says."""
    size = path.stat().st_size if path.exists() else -1
    if size != count * dtype.itemsize:
        raise FormatError(
            f"{path}: {max(size, 0)} bytes were found; the index promises "
            f"{count * dtype.itemsize}. Delete the folder and pack again."
        )
    if count == 0:
        return np.zeros(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r", shape=(count,))
