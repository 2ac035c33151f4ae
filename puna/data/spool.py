"""Documents on disk while they are judged: written once, read back in any order.

Curation looks at every document several times (clusters, repeated lines, filters) and must not hold
them all in memory. The index costs 16 bytes a document; worker processes open the same file.
"""

import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from puna.data.document import Document, from_line, to_line


class Spool:
    """An append-only file of documents with random access by index."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offsets = array.array("q", [0])
        self._file: IO[bytes] = path.open("w+b")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def append(self, document: Document) -> None:
        """Write one document at the end."""
        line = to_line(document).encode() + b"\n"
        self._file.seek(self.offsets[-1])
        self._file.write(line)
        self.offsets.append(self.offsets[-1] + len(line))

    def read(self, indices: Iterable[int]) -> Iterator[Document]:
        """Yield the documents at `indices`, in that order."""
        self._file.flush()
        yield from read_spool(self.path, self.spans(indices))

    def spans(self, indices: Iterable[int]) -> list[tuple[int, int]]:
        """Where the documents lie, as (offset, length), for `read_spool` in another process."""
        self._file.flush()
        return [(self.offsets[i], self.offsets[i + 1] - self.offsets[i]) for i in indices]


def read_spool(path: Path, spans: Iterable[tuple[int, int]]) -> Iterator[Document]:
    """Yield the documents that lie at the given spans of a spool's file."""
    with path.open("rb") as file:
        for offset, length in spans:
            file.seek(offset)
            yield from_line(file.read(length).decode(), where=str(path))
