"""Raw pages become clean documents: the order of curation's stages, and what each removed.

Gather, remove near-duplicates, remove repeated lines, filter, split off what training must not see,
mix, write. The order follows The Llama 3 Herd of Models, section 3.1.1. Documents lie on disk
between the stages; worker processes share the work, and the result is the same for any number of
them. Packing reads the folder that this writes.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from puna.config import to_table
from puna.data.account import CurateReport
from puna.data.document import Document
from puna.data.filters import FilterLimits
from puna.data.judge import Row, clean_documents, drop_near_duplicates, drop_old_captures
from puna.data.lines import LineLimit
from puna.data.minhash import MinHashLimit
from puna.data.mixture import GENERATED, MixConfig
from puna.data.readers import read_pages
from puna.data.sources import found_documents
from puna.data.split import HeldOutConfig, drop_known_lines, split_rows
from puna.data.spool import Spool
from puna.data.workers import count_workers
from puna.data.write import write_heldout, write_train
from puna.errors import ConfigError, RequestError
from puna.files import atomic_folder, write_json
from puna.log import note, progress


@dataclass(frozen=True, slots=True, kw_only=True)
class CurateConfig:
    """What to keep, and how much of it."""

    budget_bytes: int = 16_000_000  # of training text, all sources together
    shard_bytes: int = 64_000_000
    seed: int = 0
    packages: tuple[str, ...] = ()  # of the standard library; (): all, and the language reference
    # Generated sources that join the user's own pages; the seed set always has both.
    with_pages: tuple[str, ...] = ("maths",)
    workers: int | None = None  # processes; None: one for each core
    minhash: MinHashLimit = field(default_factory=MinHashLimit)
    lines: LineLimit = field(default_factory=LineLimit)
    held_out: HeldOutConfig = field(default_factory=HeldOutConfig)
    filters: FilterLimits = field(default_factory=FilterLimits)
    mix: MixConfig = field(default_factory=MixConfig)

    def __post_init__(self) -> None:
        if self.budget_bytes < 1 or self.shard_bytes < 1:
            raise ConfigError(
                f"curate: budget_bytes={self.budget_bytes}, shard_bytes={self.shard_bytes}; "
                "both must be positive."
            )
        strange = [source for source in self.with_pages if source not in GENERATED]
        if strange:
            raise ConfigError(
                f"curate: with_pages holds '{strange[0]}'; the generated sources are "
                f"{', '.join(GENERATED)}."
            )


def curate(
    config: CurateConfig, out_folder: Path, pages: Sequence[Path] | None = None
) -> CurateReport:
    """Write the training and held-out documents to `out_folder` and report what was removed.

    Args:
        pages: the user's own files and folders; without them the seed sources of this machine.
    Raises:
        RequestError: no document is left.
    """
    report = CurateReport()
    workers = count_workers(config.workers)
    with atomic_folder(out_folder) as folder, contextlib.ExitStack() as stack:
        raw = stack.enter_context(Spool(folder / "raw.partial"))
        clean = stack.enter_context(Spool(folder / "clean.partial"))
        rows = _gather(_documents(config, pages, workers, report), raw, report)
        rows = drop_old_captures(raw, rows, report)
        rows = drop_near_duplicates(raw, rows, config.minhash, report, workers=workers)
        rows = clean_documents(
            raw,
            rows,
            clean,
            config.lines,
            config.filters,
            report,
            workers=workers,
            scratch=folder / "unwanted.npy",
            seed=config.seed,
        )
        if not rows:
            raise RequestError(
                f"curate: {sum(report.found.values())} documents were found and none is left; at "
                f"least one readable text is needed. Removed: {report.reasons()}."
            )
        train, heldout = split_rows(rows, config.held_out, seed=config.seed)
        known = drop_known_lines(clean, train, heldout, report, config.filters)
        generated = GENERATED if pages is None else config.with_pages
        write_heldout(folder, known, config.held_out, report, generated=generated, seed=config.seed)
        write_train(
            folder,
            clean,
            train,
            config.mix,
            report,
            generated=generated,
            budget_bytes=config.budget_bytes,
            shard_bytes=config.shard_bytes,
            seed=config.seed,
        )
        settings = to_table(config)
        settings.pop("workers", None)  # how the work is shared changes nothing in the result
        write_json(folder / "report.json", {"config": settings, **to_table(report)})
    note(f"curated {sum(report.train.values()):,} training documents into {out_folder}")
    return report


def _documents(
    config: CurateConfig, pages: Sequence[Path] | None, workers: int, report: CurateReport
) -> Iterator[Document]:
    """Yield the user's documents, or those of this machine."""
    failures: dict[str, str] = {}
    if pages is None:
        yield from found_documents(failures, workers=workers, packages=config.packages)
    else:
        yield from read_pages(pages, failures, workers=workers)
    report.unreadable |= dict(sorted(failures.items()))


def _gather(documents: Iterator[Document], raw: Spool, report: CurateReport) -> list[Row]:
    """Write the documents to disk and keep what the stages need to know of each."""
    rows = []
    with progress(total=None, title="documents") as bar:
        for document in documents:
            size = document.bytes
            rows.append(Row.of(document, index=len(raw), size=size))
            raw.append(document)
            report.found[document.source] += 1
            report.found_bytes[document.source] += size
            bar.advance(note=document.id)
    return rows
