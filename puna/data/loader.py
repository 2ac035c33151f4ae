"""Batches from token shards: a pure function of the seed and the batch's number.

Nothing is remembered between batches, so a run resumes at any number, and any number of ranks reads
the same global batches in the same order: rank r of R takes rows r, r+R, r+2R ...
Each window of the stream is read once an epoch; the order of the windows is a keyed permutation.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from puna.data.shards import TokenStream
from puna.errors import ConfigError
from puna.ops.loss import IGNORED


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows of tokens, what follows each, and the document that each belongs to; all [B, T]."""

    ids: Tensor
    targets: Tensor  # IGNORED where nothing is to be predicted
    documents: Tensor

    @property
    def target_tokens(self) -> int:
        """Number of positions that count in the loss."""
        return int((self.targets != IGNORED).sum())

    def split(self, rows: int) -> "list[Batch]":
        """Cut into micro-batches of at most `rows` rows."""
        return [
            Batch(
                ids=self.ids[first : first + rows],
                targets=self.targets[first : first + rows],
                documents=self.documents[first : first + rows],
            )
            for first in range(0, len(self.ids), rows)
        ]


class Loader:
    """Global batches of `batch` rows of `sequence` tokens."""

    def __init__(self, stream: TokenStream, *, sequence: int, batch: int, seed: int) -> None:
        self.stream, self.sequence, self.rows, self.seed = stream, sequence, batch, seed
        self.windows = stream.tokens // sequence
        if self.windows < 1:
            raise ConfigError(
                f"loader: {stream.tokens} tokens were packed; one row needs {sequence}. Give more "
                "documents or a shorter sequence."
            )

    def batch(self, number: int, *, rank: int = 0, ranks: int = 1) -> Batch:
        """Return this rank's rows of global batch `number`.

        Raises:
            ConfigError: the batch does not divide among the ranks.
        """
        if self.rows % ranks:
            raise ConfigError(
                f"loader: a batch of {self.rows} rows was given to {ranks} ranks; it must be a "
                "multiple of them."
            )
        first = number * self.rows
        rows = [self._row(first + row) for row in range(rank, self.rows, ranks)]
        ids, targets, documents = (torch.stack(columns) for columns in zip(*rows, strict=True))
        return Batch(ids=ids, targets=targets, documents=documents)

    def _row(self, position: int) -> tuple[Tensor, Tensor, Tensor]:
        epoch, place = divmod(position, self.windows)
        start = permute(place, self.windows, key=f"{self.seed}/{epoch}") * self.sequence
        stop = min(start + self.sequence + 1, self.stream.tokens)
        ids, documents, mask = (
            torch.from_numpy(read(start, stop))
            for read in (self.stream.ids, self.stream.documents, self.stream.mask)
        )
        if len(ids) == self.sequence:  # the stream ends with this window: nothing follows it
            ids, documents, mask = (torch.cat((x, x[-1:])) for x in (ids, documents, mask))
            mask[-1] = 0
        # The first token of a document is not predicted from the last of the one before.
        counts = mask[1:].bool() & (documents[1:] == documents[:-1])
        targets = torch.where(counts, ids[1:], IGNORED)
        return ids[:-1], targets, documents[:-1] - documents[0]


def permute(place: int, count: int, *, key: str) -> int:
    """Return where `place` of 0 .. count-1 goes under a permutation chosen by `key`.

    Four Feistel rounds over the smallest even number of bits, walked until the result lies inside;
    constant time and memory at any count. Source: Black and Rogaway 2002, "Ciphers with Arbitrary
    Finite Domains", cycle walking.
    """
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    while True:
        left, right = place >> half, place & low
        for turn in range(4):
            text = f"{key}/{turn}/{right}".encode()
            word = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
            left, right = right, left ^ (word & low)
        place = (left << half) | right
        if place < count:
            return place
