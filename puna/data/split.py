"""The held-out split: whole groups of documents that training never sees, not even in part.

A page and the source of one module share a group, so they fall on one side. What a held-out
document still shares with a training document, line by line, is dropped from the held-out one:
otherwise bits per byte on it would measure memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from puna.data.account import CurateReport
from puna.data.document import Document
from puna.data.filters import FilterLimits, too_short
from puna.data.heldout import held_out_group
from puna.data.judge import Row
from puna.data.lines import Hashes, contains, drop_lines, line_hashes
from puna.data.mixture import order_key
from puna.data.spool import Spool
from puna.errors import ConfigError

# A shared line this long (normalised characters) gives a text away; shorter ones are syntax.
_SUBSTANCE_CHARS: Mapping[str, int] = {"general": 16, "code": 40}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutConfig:
    """How much is kept from training."""

    share: float = 0.08  # of the groups
    max_bytes: int = 400_000  # of each source; what is beyond it goes nowhere
    generated_documents: int = 100  # of each generated source

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ConfigError(f"held_out: share={self.share}; a share from 0 to below 1 is needed.")


def split_rows(
    rows: Sequence[Row], config: HeldOutConfig, *, seed: int
) -> tuple[list[Row], list[Row]]:
    """Return the training rows and the held-out rows; a group is whole on one side."""
    held = {row.group for row in rows if held_out_group(row.group, config.share, seed)}
    if len(held) == len({row.group for row in rows}):
        held = set()  # a single document cannot be both
    train = [row for row in rows if row.group not in held]
    heldout: list[Row] = []
    used = dict.fromkeys((row.source for row in rows), 0)
    for row in sorted(rows, key=lambda row: order_key(row.id, seed)):
        if row.group in held and used[row.source] + row.size <= config.max_bytes:
            used[row.source] += row.size
            heldout.append(row)
    return train, heldout


def drop_known_lines(
    spool: Spool,
    train: Sequence[Row],
    heldout: Sequence[Row],
    report: CurateReport,
    filters: FilterLimits,
) -> Iterator[Document]:
    """Yield the held-out documents without the lines of substance that training holds."""
    if not heldout:
        return
    least = min(_SUBSTANCE_CHARS.values())
    asked = np.unique(
        np.concatenate([_hashes(document, least) for document in _read(spool, heldout)])
    )
    known = np.zeros(len(asked), dtype=np.bool_)
    for document in _read(spool, train):
        known |= contains(np.unique(_hashes(document, least)), asked)
    for document in _read(spool, heldout):
        min_chars = _SUBSTANCE_CHARS[document.source]
        text, dropped = drop_lines(document.text, asked[known], min_chars=min_chars)
        report.heldout_lines_dropped[document.source] += dropped
        document = replace(document, text=text)
        if too_short(document, filters):
            report.remove(document, "known_to_training")
        else:
            yield document


def _hashes(document: Document, min_chars: int) -> Hashes:
    return line_hashes(document.text, min_chars=min_chars)


def _read(spool: Spool, rows: Sequence[Row]) -> Iterator[Document]:
    return spool.read(row.index for row in rows)
