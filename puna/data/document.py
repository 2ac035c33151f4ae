"""A document: one piece of text, where it came from, and the files that hold many of them.

Readers and sources make documents, filters and deduplication judge them, `curate` writes them as
shards of JSON lines compressed with zstd, and packing turns those into tokens.
"""

import contextlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from puna.errors import ExtraError, FormatError, NotFoundError

SOURCES = ("general", "code", "maths", "multilingual")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One text and its origin. `id` is unique in a collection and stable from run to run."""

    text: str
    id: str
    source: str  # one of SOURCES
    language: str | None = None  # ISO 639-1, where it is known
    metadata: Mapping[str, str] = field(default_factory=dict)  # url, date, group, ...

    @property
    def group(self) -> str:
        """What must stay together on one side of the held-out split: a module, or the document."""
        return self.metadata.get("group", self.id)

    @property
    def bytes(self) -> int:
        """Length of the text in UTF-8."""
        return len(self.text.encode())


def to_line(document: Document) -> str:
    """Write a document as one line of JSON, always the same line for the same document."""
    table: dict[str, Any] = {
        "id": document.id,
        "source": document.source,
        "language": document.language,
        "metadata": dict(sorted(document.metadata.items())),
        "text": document.text,
    }
    return json.dumps(table, ensure_ascii=False, separators=(",", ":"))


def from_line(line: str, *, where: str) -> Document:
    """Read back what `to_line` wrote.

    Raises:
        FormatError: the line is not JSON or lacks a field.
    """
    try:
        table = json.loads(line)
        return Document(
            text=table["text"],
            id=table["id"],
            source=table["source"],
            language=table["language"],
            metadata=table["metadata"],
        )
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise FormatError(
            f"{where}: not a document ({error!r}); a JSON object with text, id, source, language "
            "and metadata is expected. Run `puna curate` again."
        ) from error


@contextlib.contextmanager
def open_writer(path: Path) -> Iterator[IO[str]]:
    """Open a zstd file for text; the same text gives the same bytes."""
    zstandard = import_zstandard()
    with (
        path.open("wb") as raw,
        zstandard.ZstdCompressor(level=3).stream_writer(raw) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as text,
    ):
        yield text


def write_documents(path: Path, documents: Iterable[Document]) -> int:
    """Write documents to one `.jsonl.zst` file and return how many there were."""
    count = 0
    with open_writer(path) as file:
        for document in documents:
            file.write(to_line(document) + "\n")
            count += 1
    return count


def read_documents(path: Path) -> Iterator[Document]:
    """Yield the documents of one `.jsonl.zst` file, a few at a time in memory.

    Raises:
        NotFoundError: there is no such file.
        FormatError: the file is cut off or is not one that `write_documents` made.
    """
    zstandard = import_zstandard()
    if not path.is_file():
        raise NotFoundError(f"{path}: no such file; a shard of documents is expected there.")
    with path.open("rb") as raw:
        packed = zstandard.ZstdDecompressor().stream_reader(raw)
        lines = io.TextIOWrapper(packed, encoding="utf-8", newline="\n")
        try:
            for number, line in enumerate(lines, start=1):
                yield from_line(line, where=f"{path}:{number}")
        except (zstandard.ZstdError, UnicodeDecodeError) as error:
            raise FormatError(
                f"{path}: damaged ({error}); a whole zstd file of JSON lines is expected. "
                "Run `puna curate` again."
            ) from error


def read_split(folder: Path, split: str) -> Iterator[Document]:
    """Yield every document of one split ("train" or "heldout") of a curated folder, in order."""
    shards = sorted(folder.glob(f"{split}-*.jsonl.zst"))
    single = folder / f"{split}.jsonl.zst"
    if single.is_file():
        shards = [single]
    if not shards:
        raise NotFoundError(
            f"{folder}: holds no {split} documents; a folder written by `puna curate` is expected."
        )
    for shard in shards:
        yield from read_documents(shard)


def import_zstandard() -> Any:
    """Import zstandard, or say which extra brings it."""
    try:
        import zstandard
    except ImportError as error:
        raise ExtraError(
            "reading documents needs the extra `curate`: pip install 'puna[curate]'."
        ) from error
    return zstandard
