"""What one stream of a call wrote: the beginning and the end of it, and how much lies between."""

import os


class Capture:
    """Keep at most `limit` bytes of a stream, however much comes."""

    def __init__(self, descriptor: int, limit: int) -> None:
        self.descriptor = descriptor
        self._half = max(1, limit // 2)
        self._head = bytearray()
        self._tail = bytearray()
        self._total = 0

    def read(self) -> bool:
        """Take what waits in the stream; return False where nothing did, or where it has ended."""
        try:
            piece = os.read(self.descriptor, 2**18)
        except BlockingIOError:
            return False
        if not piece:
            return False
        self._total += len(piece)
        room = self._half - len(self._head)
        if room > 0:
            self._head += piece[:room]
            piece = piece[room:]
        self._tail += piece
        del self._tail[: -self._half]
        return True

    def drain(self, most: int = 2**20) -> None:
        """Take what the pipe holds; no pipe of an ordinary user holds more than `most`."""
        end = self._total + most
        while self._total < end and self.read():
            pass

    def text(self) -> bytes:
        """Return what was kept, with a note where something is left out, and begin anew."""
        missing = self._total - len(self._head) - len(self._tail)
        note = f"\n[... {missing:,} bytes left out ...]\n".encode() if missing else b""
        whole = bytes(self._head) + note + bytes(self._tail)
        self._head.clear()
        self._tail.clear()
        self._total = 0
        return whole
