"""Files that may be compressed, and may be cut off: open them, and say where they end too early.

Readers take what is whole from a damaged file and count what is not, so a stream here raises one
kind of error, `FormatError`, whatever the compression.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from puna.data.document import import_zstandard
from puna.errors import FormatError

_BLOCK_BYTES = 1 << 18


def open_stream(path: Path) -> io.BufferedReader:
    """Open a plain, `.gz` or `.zst` file for reading its uncompressed bytes.

    Raises:
        FormatError: from any read, where the compressed data is damaged or ends too early.
    """
    raw = path.open("rb")
    match path.suffix.lower():
        case ".gz":
            blocks = _gzip_blocks(raw)
        case ".zst":
            blocks = _zstd_blocks(raw)
        case _:
            return raw
    return io.BufferedReader(_Blocks(raw, blocks, path))


class _Blocks(io.RawIOBase):
    """A readable stream over an iterator of blocks."""

    def __init__(self, raw: IO[bytes], blocks: Iterator[bytes], path: Path) -> None:
        self._raw, self._blocks, self._path = raw, blocks, path
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        while not self._rest:
            try:
                self._rest = next(self._blocks)
            except StopIteration:
                return 0
            except (EOFError, OSError, ValueError, zlib.error) as error:
                raise FormatError(
                    f"{self._path}: the compressed data is damaged or cut off ({error}); "
                    "a whole file is expected. Copy or download it again."
                ) from error
        part = self._rest[: len(buffer)]
        buffer[: len(part)] = part
        self._rest = self._rest[len(part) :]
        return len(part)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _gzip_blocks(raw: IO[bytes]) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=raw) as file:
        while block := file.read1(_BLOCK_BYTES):
            yield block


def _zstd_blocks(raw: IO[bytes]) -> Iterator[bytes]:
    """Decompress every frame of a file; a frame that does not end is an error."""
    zstandard = import_zstandard()
    pending = raw.read(_BLOCK_BYTES)
    while pending:
        frame = zstandard.ZstdDecompressor().decompressobj()
        while not frame.eof:
            if not pending:
                raise EOFError("the last frame has no end")
            try:
                block = frame.decompress(pending)
            except zstandard.ZstdError as error:
                raise ValueError(str(error)) from error
            pending = frame.unused_data if frame.eof else raw.read(_BLOCK_BYTES)
            if block:
                yield block
        pending = pending or raw.read(_BLOCK_BYTES)
