"""The stages that judge found documents: near-duplicates, repeated lines, filters.

Each stage reads documents from a spool in worker processes and hands on the rows of those that
stay. Which documents stay does not depend on their order or on the number of workers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from puna.data.account import CurateReport
from puna.data.document import Document
from puna.data.filters import FilterLimits, too_short, why_not, wrong_language
from puna.data.language import detect_language
from puna.data.lines import Hashes, LineLimit, drop_lines, drop_own_repeats, line_hashes, repeated
from puna.data.minhash import MinHashLimit, band_keys, survivors
from puna.data.mixture import order_key
from puna.data.spool import Spool, read_spool
from puna.data.urls import newest, normalise_url
from puna.data.workers import ordered_map
from puna.log import progress

_CHUNK = 24  # documents of one task
# Lines repeat in code because programs are written so; only prose is freed of repeated lines.
_LINE_SOURCES = frozenset({"general"})

_OWN_REPEAT_CHARS = 8  # shorter lines may repeat in one page: values of examples, names

Spans = list[tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the stages need to know of a document that lies in a spool."""

    index: int
    id: str
    source: str
    group: str
    url: str  # normalised; empty where the document has none
    date: str
    size: int  # bytes of text

    @classmethod
    def of(cls, document: Document, *, index: int, size: int) -> Self:
        """Describe the document that stands at `index`."""
        return cls(
            index=index,
            id=document.id,
            source=document.source,
            group=document.group,
            url=normalise_url(document.metadata.get("url", "")),
            date=document.metadata.get("date", ""),
            size=size,
        )


def drop_old_captures(spool: Spool, rows: Sequence[Row], report: CurateReport) -> list[Row]:
    """Keep the newest document of each address."""
    kept = newest([(row.url, row.date, row.size, row.id) for row in rows])
    _report_gone(spool, rows, kept, "older_capture", report)
    return [rows[place] for place in kept]


def drop_near_duplicates(
    spool: Spool, rows: Sequence[Row], limit: MinHashLimit, report: CurateReport, *, workers: int
) -> list[Row]:
    """Keep the newest, then longest, document of each cluster of near-duplicates."""
    if not rows:
        return []
    tasks = ((spool.path, spans, limit) for spans in _chunks(spool, rows))
    with progress(total=len(rows), title="near-duplicates") as bar:
        keys = []
        for part in ordered_map(_band_keys, tasks, workers=workers):
            keys.append(part)
            bar.advance(len(part))
    kept = survivors(np.concatenate(keys), [(row.date, row.size, row.id) for row in rows])
    _report_gone(spool, rows, kept, "near_duplicate", report)
    return [rows[place] for place in kept]


def clean_documents(
    raw: Spool,
    rows: Sequence[Row],
    clean: Spool,
    lines: LineLimit,
    filters: FilterLimits,
    report: CurateReport,
    *,
    workers: int,
    scratch: Path,
    seed: int,
) -> list[Row]:
    """Drop repeated lines, filter what is left, and write the rest to the spool `clean`."""
    ordered = sorted(rows, key=lambda row: order_key(row.id, seed))
    kept = []
    with progress(total=len(ordered), title="lines, filters") as bar:
        for start in range(0, len(ordered), lines.bucket_documents):
            bucket = ordered[start : start + lines.bucket_documents]
            prose = [row for row in bucket if row.source in _LINE_SOURCES]
            tasks = ((raw.path, spans) for spans in _chunks(raw, prose))
            hashes = ordered_map(_line_hashes, tasks, workers=workers)
            np.save(scratch, repeated(hashes, lines.most))
            judged = ordered_map(
                _judge,
                ((raw.path, spans, scratch, filters) for spans in _chunks(raw, bucket)),
                workers=workers,
            )
            for row, verdict in zip(
                bucket, (each for part in judged for each in part), strict=True
            ):
                bar.advance()
                report.lines_dropped[row.source] += verdict.dropped_lines
                if verdict.reason is not None:
                    report.remove(verdict.document, verdict.reason)
                    continue
                size = verdict.document.bytes
                kept.append(replace(row, index=len(clean), size=size))
                clean.append(verdict.document)
                report.clean_bytes[row.source] += size
    scratch.unlink(missing_ok=True)
    return kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A document after line deduplication, and why it should go."""

    document: Document
    reason: str | None
    dropped_lines: int


def _report_gone(
    spool: Spool, rows: Sequence[Row], kept: Sequence[int], reason: str, report: CurateReport
) -> None:
    gone = sorted(set(range(len(rows))).difference(kept))
    for document in spool.read(rows[place].index for place in gone):
        report.remove(document, reason)


def _chunks(spool: Spool, rows: Sequence[Row]) -> Iterator[Spans]:
    for start in range(0, len(rows), _CHUNK):
        yield spool.spans(row.index for row in rows[start : start + _CHUNK])


def _band_keys(task: tuple[Path, Spans, MinHashLimit]) -> Hashes:
    path, spans, limit = task
    return np.stack([band_keys(document.text, limit) for document in read_spool(path, spans)])


def _line_hashes(task: tuple[Path, Spans]) -> Hashes:
    path, spans = task
    documents = read_spool(path, spans)
    return np.concatenate([line_hashes(_without_own_repeats(each)[0].text) for each in documents])


def _judge(task: tuple[Path, Spans, Path, FilterLimits]) -> list[Verdict]:
    path, spans, scratch, filters = task
    unwanted = np.load(scratch)
    return [_verdict(document, unwanted, filters) for document in read_spool(path, spans)]


def _verdict(document: Document, unwanted: Hashes, filters: FilterLimits) -> Verdict:
    """Drop lines, name the language, and ask the filters."""
    dropped = 0
    if document.source in _LINE_SOURCES:
        document, own = _without_own_repeats(document)
        text, shared = drop_lines(document.text, unwanted)
        document, dropped = replace(document, text=text), own + shared
    reason = too_short(document, filters)
    if reason is None and document.source == "general" and document.language is None:
        language, score = detect_language(document.text)
        document = replace(document, language=language)
        reason = wrong_language(document, score, filters)
    reason = reason or why_not(document, filters)
    return Verdict(document=document, reason=reason, dropped_lines=dropped)


def _without_own_repeats(document: Document) -> tuple[Document, int]:
    """Free a reference page of what it says twice: each class repeats the members of its bases."""
    if document.metadata.get("kind") != "reference":
        return document, 0
    text, dropped = drop_own_repeats(document.text, min_chars=_OWN_REPEAT_CHARS)
    return replace(document, text=text), dropped
