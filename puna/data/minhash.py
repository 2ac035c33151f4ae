"""Near-duplicate documents: MinHash signatures in bands, joined by union-find.

Two documents of Jaccard similarity s over their word 5-grams agree in one hash with probability s,
in a band of r hashes with s^r, and in at least one of b bands with 1 - (1 - s^r)^b. With FineWeb's
14 bands of 8 (Penedo et al. 2024, arXiv:2406.17557) that is 0.77 at s = 0.75. Documents that share
a band form a cluster, and `curate` keeps one of each.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from puna.errors import ConfigError

Hashes = npt.NDArray[np.uint64]

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class MinHashLimit:
    """Shape of the signature. Source of the defaults: FineWeb, arXiv:2406.17557."""

    words: int = 5  # words of one shingle
    bands: int = 14
    rows: int = 8  # hashes of one band
    seed: int = 1

    def __post_init__(self) -> None:
        if min(self.words, self.bands, self.rows) < 1:
            raise ConfigError(
                f"minhash: words={self.words}, bands={self.bands}, rows={self.rows}; "
                "each must be at least 1."
            )


def match_probability(similarity: float, limit: MinHashLimit) -> float:
    """Chance that two documents of this Jaccard similarity share a band: 1 - (1 - s^r)^b."""
    return float(1 - (1 - similarity**limit.rows) ** limit.bands)


def shingles(text: str, words: int) -> Hashes:
    """Return the distinct 64-bit hashes of the word n-grams of a text, sorted.

    A text shorter than one shingle gives the single shingle of all its words; one without a word
    gives none.
    """
    found = _WORD.findall(text.lower())
    if not found:
        return np.empty(0, np.uint64)
    table = {word: _word_hash(word) for word in set(found)}
    hashed = np.array([table[word] for word in found], dtype=np.uint64)
    width = min(words, len(found))
    count = len(found) - width + 1
    rolled = np.zeros(count, dtype=np.uint64)
    for place in range(width):
        rolled = _mix(rolled * np.uint64(0x100000001B3) + hashed[place : place + count])
    return np.unique(rolled)


def band_keys(text: str, limit: MinHashLimit) -> Hashes:
    """Return one key per band [bands]; documents with an equal key in one place are candidates.

    A text without words gets no key that another could share: all keys are 0.
    """
    found = shingles(text, limit.words)
    if not len(found):
        return np.zeros(limit.bands, dtype=np.uint64)
    seeds = _mix(np.arange(limit.bands * limit.rows, dtype=np.uint64) + np.uint64(limit.seed << 32))
    signature = np.array([_mix(found ^ seed).min() for seed in seeds], dtype=np.uint64)
    rows = signature.reshape(limit.bands, limit.rows)
    keys = np.arange(1, limit.bands + 1, dtype=np.uint64)
    for row in range(limit.rows):
        keys = _mix(keys * np.uint64(0x100000001B3) + rows[:, row])
    return keys | np.uint64(1)


def clusters(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Return for each document [documents] the smallest index of its cluster.

    Args:
        keys: [documents, bands] from `band_keys`.
    """
    parent = np.arange(len(keys), dtype=np.int64)
    for band in range(keys.shape[1] if len(keys) else 0):
        order = np.argsort(keys[:, band], kind="stable")
        column = keys[order, band]
        same = (column[1:] == column[:-1]) & (column[1:] != 0)
        for place in np.flatnonzero(same):
            _join(parent, int(order[place]), int(order[place + 1]))
    return np.array([_root(parent, i) for i in range(len(parent))], dtype=np.int64)


def survivors(keys: npt.NDArray[np.uint64], ranks: Sequence[tuple[str, int, str]]) -> list[int]:
    """Return the index of the best document of every cluster, in ascending order.

    Args:
        keys: [documents, bands].
        ranks: (date, length, id) of each document; the greatest is kept, so the choice does not
            depend on the order of the documents.
    """
    best: dict[int, int] = {}
    for index, cluster in enumerate(clusters(keys)):
        held = best.setdefault(int(cluster), index)
        if ranks[index] > ranks[held]:
            best[int(cluster)] = index
    return sorted(best.values())


def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


def _mix(z: Hashes) -> Hashes:
    """Scatter 64-bit numbers: the finaliser of splitmix64 (Steele, Lea and Flood 2014)."""
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _root(parent: npt.NDArray[np.int64], node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = int(parent[node])
    return node


def _join(parent: npt.NDArray[np.int64], one: int, other: int) -> None:
    one, other = _root(parent, one), _root(parent, other)
    parent[max(one, other)] = min(one, other)
