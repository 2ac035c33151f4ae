"""The curated folder: shards of shuffled training documents and one file of held-out ones.

`train-00000.jsonl.zst`, `train-00001.jsonl.zst`, ... hold the mix in an order that depends on the
seed and the documents' ids; `heldout.jsonl.zst` holds what `split` kept back, and generated
documents about the numbers that training never names.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from puna.data.account import CurateReport
from puna.data.document import Document, open_writer, to_line
from puna.data.judge import Row
from puna.data.mixture import GENERATED, MixConfig, choose, order_key, plan_budget
from puna.data.sources import generated_document
from puna.data.split import HeldOutConfig
from puna.data.spool import Spool
from puna.log import progress


@dataclass(frozen=True, slots=True)
class _Place:
    """A chosen document: the row of a found one, or the number of a generated one."""

    key: tuple[bytes, str]
    source: str
    index: int


def write_heldout(
    folder: Path,
    found: Iterable[Document],
    config: HeldOutConfig,
    report: CurateReport,
    *,
    generated: Sequence[str],
    seed: int,
) -> None:
    """Write `heldout.jsonl.zst`: the found documents, then the generated ones."""
    with open_writer(folder / "heldout.jsonl.zst") as file:
        for document in _with_generated(found, generated, config.generated_documents, seed):
            file.write(to_line(document) + "\n")
            report.heldout[document.source] += 1
            report.heldout_bytes[document.source] += document.bytes


def write_train(
    folder: Path,
    spool: Spool,
    rows: Sequence[Row],
    mix: MixConfig,
    report: CurateReport,
    *,
    generated: Sequence[str],
    budget_bytes: int,
    shard_bytes: int,
    seed: int,
) -> None:
    """Choose the mix and write it in shards of about `shard_bytes` of text."""
    available: dict[str, int] = {}
    for row in rows:
        available[row.source] = available.get(row.source, 0) + row.size
    budget = plan_budget(mix, available, budget_bytes, generated)
    report.limited_by = budget.limited_by
    places = sorted(_places(rows, budget.bytes, seed), key=lambda place: place.key)
    with progress(total=len(places), title="writing") as bar, contextlib.ExitStack() as stack:
        shard, written, file = 0, shard_bytes, None
        for place in places:
            document = _fetch(place, spool, seed)
            if file is None or written >= shard_bytes:
                stack.close()
                path = folder / f"train-{shard:05d}.jsonl.zst"
                file = stack.enter_context(open_writer(path))
                shard, written = shard + 1, 0
            file.write(to_line(document) + "\n")
            size = document.bytes
            written += size
            report.train[document.source] += 1
            report.train_bytes[document.source] += size
            bar.advance(note=document.id)


def _places(rows: Sequence[Row], budget: Mapping[str, int], seed: int) -> Iterator[_Place]:
    for source, size in sorted(budget.items()):
        if source in GENERATED:
            yield from _generated_places(source, size, seed)
            continue
        own = [row for row in rows if row.source == source]
        for chosen in choose([row.id for row in own], [row.size for row in own], size, seed=seed):
            row = own[chosen]
            yield _Place(order_key(row.id, seed), source, row.index)


def _generated_places(source: str, size: int, seed: int) -> Iterator[_Place]:
    """Count off generated documents until their text fills `size` bytes."""
    index = 0
    while size > 0:
        document = generated_document(source, index, seed=seed)
        yield _Place(order_key(document.id, seed), source, index)
        size -= document.bytes
        index += 1


def _fetch(place: _Place, spool: Spool, seed: int) -> Document:
    if place.source in GENERATED:
        return generated_document(place.source, place.index, seed=seed)
    return next(spool.read([place.index]))


def _with_generated(
    found: Iterable[Document], generated: Sequence[str], count: int, seed: int
) -> Iterator[Document]:
    yield from found
    for source in generated:
        for index in range(count):
            yield generated_document(source, index, seed=seed, held_out=True)
