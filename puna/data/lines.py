"""Line deduplication: a line that many documents share is furniture, not text.

Lines are compared after normalisation (ccNet, Wenzek et al. 2019: lower case, no accents or
punctuation, digits as 0) by 64 bits of their SHA-1. Llama 3 drops lines seen more than 6 times in
each bucket of 30 million documents (The Llama 3 Herd of Models, section 3.1.1). In pydoc's pages
these are the members that every subclass inherits and the headings that every page repeats.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from puna.errors import ConfigError

Hashes = npt.NDArray[np.uint64]

_NOT_WORDS = re.compile(r"[^\w\s]|_")
_SPACES = re.compile(r"\s+")
_DIGITS = re.compile(r"\d")
_BLANK_RUN = re.compile(r"\n{3,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LineLimit:
    """When a line counts as repeated. Source: The Llama 3 Herd of Models, section 3.1.1."""

    most: int = 6  # a line seen more often than this in a bucket is dropped everywhere in it
    bucket_documents: int = 30_000_000

    def __post_init__(self) -> None:
        if self.most < 1 or self.bucket_documents < 1:
            raise ConfigError(
                f"lines: most={self.most}, bucket_documents={self.bucket_documents}; "
                "both must be at least 1."
            )


def normalise_line(line: str) -> str:
    """Reduce a line to what is compared; lines without a word become empty."""
    if not line.isascii():
        decomposed = unicodedata.normalize("NFD", line.lower())
        line = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
    line = _DIGITS.sub("0", _NOT_WORDS.sub(" ", line.lower()))
    return _SPACES.sub(" ", line).strip()


def line_hash(normalised: str) -> int:
    """Return 64 bits of the SHA-1 of a normalised line; 0 stands for an empty one."""
    if not normalised:
        return 0
    return int.from_bytes(hashlib.sha1(normalised.encode()).digest()[:8], "little") or 1


def line_hashes(text: str, *, min_chars: int = 1) -> Hashes:
    """Hash every line; those whose normalised form is shorter than `min_chars` become 0."""
    normal = (normalise_line(line) for line in text.splitlines())
    found = (line_hash(line) if len(line) >= min_chars else 0 for line in normal)
    return np.fromiter(found, dtype=np.uint64)


def repeated(hashes: Iterable[Hashes], most: int) -> Hashes:
    """Return, sorted, the line hashes that occur more than `most` times over all documents."""
    arrays = list(hashes)
    if not arrays:
        return np.empty(0, np.uint64)
    values, counts = np.unique(np.concatenate(arrays), return_counts=True)
    frequent: Hashes = values[(counts > most) & (values != 0)]
    return frequent


def drop_lines(text: str, unwanted: Hashes, *, min_chars: int = 1) -> tuple[str, int]:
    """Remove the lines whose hash is in the sorted array `unwanted`; return text and count."""
    if not len(unwanted):
        return text, 0
    lines = text.splitlines()
    gone = contains(unwanted, line_hashes(text, min_chars=min_chars))
    if not gone.any():
        return text, 0
    kept = "\n".join(line for line, drop in zip(lines, gone, strict=True) if not drop)
    return _BLANK_RUN.sub("\n\n", kept).strip("\n") + "\n", int(gone.sum())


def drop_own_repeats(text: str, *, min_chars: int) -> tuple[str, int]:
    """Remove lines that came before in the same text; return text and count.

    Short, indented and prompt lines stay, because they are examples and syntax.
    """
    seen: set[int] = set()
    kept: list[str] = []
    lines = text.splitlines()
    for line, value in zip(lines, line_hashes(text, min_chars=min_chars).tolist(), strict=True):
        if value and not line.startswith((" ", "\t", ">>>", "...")):
            if value in seen:
                continue
            seen.add(value)
        kept.append(line)
    if len(kept) == len(lines):
        return text, 0
    text = _BLANK_RUN.sub("\n\n", "\n".join(kept)).strip("\n") + "\n"
    return text, len(lines) - len(kept)


def contains(sorted_hashes: Hashes, asked: Hashes) -> npt.NDArray[np.bool_]:
    """For each asked hash whether it is in a sorted array; 0, the empty line, never is."""
    if not len(sorted_hashes):
        return np.zeros(len(asked), dtype=np.bool_)
    places = np.searchsorted(sorted_hashes, asked)
    places[places == len(sorted_hashes)] = 0
    found: npt.NDArray[np.bool_] = (sorted_hashes[places] == asked) & (asked != 0)
    return found
