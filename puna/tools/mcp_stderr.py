"""What a started MCP server writes on stderr: kept off the terminal, its last lines remembered.

A thread drains the pipe, so that a talkative server neither fills a disk nor waits for a reader.
The end of the pipe is also how the death of an idle server is noticed.
"""

import os
import threading
from typing import TextIO

_KEPT_BYTES = 2000
_READ_BYTES = 1 << 16


class StderrTail:
    """A pipe whose last bytes can be asked for."""

    def __init__(self) -> None:
        read_end, write_end = os.pipe()
        self.writer: TextIO = os.fdopen(write_end, "w")  # for the server; closed here once it runs
        self._tail = b""
        self._thread = threading.Thread(target=self._drain, args=(read_end,), daemon=True)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Whether nobody can write any more."""
        return not self._thread.is_alive()

    def text(self) -> str:
        """Return the last lines without signs that could move a terminal's cursor."""
        if self.writer.closed:
            self._thread.join(0.5)  # a server that has just died has said all in this time
        text = self._tail.decode(errors="replace").strip()
        return "".join(sign if sign.isprintable() else " " for sign in text)

    def close(self) -> None:
        """Close this side of the pipe."""
        self.writer.close()

    def _drain(self, read_end: int) -> None:
        with os.fdopen(read_end, "rb", buffering=0) as pipe:
            while data := pipe.read(_READ_BYTES):
                self._tail = (self._tail + data)[-_KEPT_BYTES:]
