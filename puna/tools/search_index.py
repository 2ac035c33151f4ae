"""A full-text index over a folder of documents, kept between runs and always up to date.

SQLite's FTS5 ranks by bm25 and cuts the snippets. Only files that changed are read again. The index
lies under `PUNA_HOME`; it can be deleted at any time.
"""

import hashlib
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from puna.errors import NotFoundError, StateError
from puna.files import kept_folder
from puna.log import progress
from puna.tools.search_files import Found, Page, files_in, read_file
from puna.tools.search_words import for_index, for_reader, matches, words_of

VERSION = 1  # of the tables; an index of another version is built anew
QUERY_S = 5.0
_TITLE_WEIGHT = 4.0  # a word in a title counts as much as four in the text
_SNIPPET_TOKENS = 48  # FTS5 allows 64
_TABLES = """
CREATE TABLE IF NOT EXISTS files (
    id INTEGER PRIMARY KEY, name TEXT UNIQUE, stamp TEXT, failure TEXT
);
CREATE TABLE IF NOT EXISTS pages (id INTEGER PRIMARY KEY, file INTEGER, url TEXT);
CREATE INDEX IF NOT EXISTS pages_of_file ON pages (file);
CREATE VIRTUAL TABLE IF NOT EXISTS texts USING fts5(
    title, body, tokenize = "porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'"
);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One document that answers a query."""

    title: str
    url: str
    snippet: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What the index holds now."""

    pages: int
    files: int
    unread: int  # files of another kind, or damaged


class SearchIndex:
    """The index of one folder. Every call opens its own connection: any thread may call."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        if not self.folder.is_dir():
            raise NotFoundError(f"search {folder}: no such folder; give one that holds documents.")
        key = hashlib.sha256(str(self.folder).encode(errors="surrogateescape")).hexdigest()[:16]
        self.path = kept_folder() / "search" / f"{self.folder.name[:40]}-{key}.sqlite3"

    def update(self, *, limit_s: float | None = None) -> Holdings:
        """Read what is new or changed, forget what is gone.

        Args:
            limit_s: stop after this time; the next call goes on where this one stopped.
        Raises:
            StateError: the index cannot be written.
        """
        ends = None if limit_s is None else time.monotonic() + limit_s
        with self._open() as index:
            known = dict(index.execute("SELECT name, stamp FROM files"))
            there = dict(files_in(self.folder))
            changed = [name for name, stamp in there.items() if known.get(name) != stamp]
            if gone := known.keys() - there.keys():
                with _writing(index):
                    for name in gone:
                        _forget(index, name)
            if changed:
                self._read(index, changed, there, ends)
            pages, files, unread = index.execute(
                "SELECT (SELECT count(*) FROM pages), count(*), count(failure) FROM files"
            ).fetchone()
        return Holdings(pages=pages, files=files, unread=unread)

    def search(self, query: str, *, limit: int) -> list[Hit]:
        """Return the best documents for a query in words, the best first; any text is a query.

        Raises:
            StateError: the index cannot be read, or the query takes too long.
        """
        words, hits = words_of(query), dict[int, Hit]()
        if not words:
            return []
        with self._open() as index:
            ends = time.monotonic() + QUERY_S
            index.set_progress_handler(lambda: time.monotonic() > ends, 10_000)
            for match in matches(words):
                for number, hit in _hits(index, match, limit):
                    if len(hits) < limit:
                        hits.setdefault(number, hit)
                if len(hits) >= limit:
                    break
        return list(hits.values())

    def _read(
        self,
        index: sqlite3.Connection,
        names: list[str],
        stamps: dict[str, str],
        ends: float | None,
    ) -> None:
        with progress(total=len(names), title="reading documents") as bar:
            for name in names:
                if ends is not None and time.monotonic() > ends:
                    break
                found = read_file(self.folder, name)
                with _writing(index):
                    _forget(index, name)  # another process may have read it just now
                    _keep(index, name, stamps[name] if found.is_final else "", found)
                bar.advance(note=name)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            index = self._connect()
            try:
                yield index
            finally:
                index.close()
        except (sqlite3.Error, OSError) as error:
            if _is_damage(error):
                self._delete()  # the next call builds it anew
            raise StateError(
                f"search index of {self.folder.name}: it cannot be used ({error}). Try again, or "
                "give another PUNA_HOME."
            ) from error

    def _connect(self) -> sqlite3.Connection:
        """Open the index; one that is damaged or of another version is replaced."""
        try:
            return _open_file(self.path)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            self._delete()
            return _open_file(self.path)

    def _delete(self) -> None:
        for ending in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)


def _open_file(path: Path) -> sqlite3.Connection:
    index = sqlite3.connect(path, timeout=30.0, isolation_level=None)
    try:
        path.chmod(0o600)  # it holds the text of the documents
        (version,) = index.execute("PRAGMA user_version").fetchone()
        if version != VERSION:
            if version or index.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise sqlite3.DatabaseError("an index of another version")
            index.execute("PRAGMA journal_mode = WAL")
            index.executescript(
                f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;"
            )
    except BaseException:
        index.close()
        raise
    return index


@contextmanager
def _writing(index: sqlite3.Connection) -> Iterator[None]:
    """Write all or nothing, one writer at a time; the others wait."""
    index.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        index.execute("ROLLBACK")
        raise
    index.execute("COMMIT")


def _is_damage(error: Exception) -> bool:
    """Whether only a new file helps; SQLite's own class for a lock or a full disk is narrower."""
    return type(error) is sqlite3.DatabaseError


def _forget(index: sqlite3.Connection, name: str) -> None:
    row = index.execute("SELECT id FROM files WHERE name = ?", (name,)).fetchone()
    if row is not None:
        index.execute("DELETE FROM texts WHERE rowid IN (SELECT id FROM pages WHERE file = ?)", row)
        index.execute("DELETE FROM pages WHERE file = ?", row)
        index.execute("DELETE FROM files WHERE id = ?", row)


def _keep(index: sqlite3.Connection, name: str, stamp: str, found: Found) -> None:
    file = index.execute(
        "INSERT INTO files (name, stamp, failure) VALUES (?, ?, ?)",
        (name, stamp, found.failure),
    ).lastrowid
    for page in found.pages:
        number = index.execute(
            "INSERT INTO pages (file, url) VALUES (?, ?)", (file, page.url)
        ).lastrowid
        _keep_text(index, number, page)


def _keep_text(index: sqlite3.Connection, number: int | None, page: Page) -> None:
    values = (number, for_index(page.title), for_index(page.text))
    index.execute("INSERT INTO texts (rowid, title, body) VALUES (?, ?, ?)", values)


def _hits(index: sqlite3.Connection, match: str, limit: int) -> list[tuple[int, Hit]]:
    rows = index.execute(
        "SELECT pages.id, texts.title, pages.url, snippet(texts, 1, '', '', ' ... ', ?) "
        "FROM texts JOIN pages ON pages.id = texts.rowid WHERE texts MATCH ? "
        "ORDER BY bm25(texts, ?, 1.0) LIMIT ?",
        (_SNIPPET_TOKENS, match, _TITLE_WEIGHT, limit),
    )
    return [
        (number, Hit(title=for_reader(title), url=url, snippet=for_reader(snippet)))
        for number, title, url, snippet in rows
    ]
