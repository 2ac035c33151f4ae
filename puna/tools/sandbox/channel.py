"""Frames between trusted processes: one letter, a length, that many bytes.

puna sends `P` (the plan), `C` (code to run) and `Q` (good-bye); the keeper answers `R` (ready),
`O` and `E` (what the code wrote to its two streams) and `D` (the call is done, and how). `X` tells
in a sentence why the sandbox could not be made. A program that bubblewrap has started asks for the
plan again with an empty `P`. The code in the sandbox never holds this channel.
"""

import struct

HEADER = struct.Struct("!cI")
MAX_FRAME = 64 * 2**20  # bytes; longer code is refused before it is sent


class HungUpError(Exception):
    """The other side is gone."""


def frame(kind: bytes, body: bytes = b"") -> bytes:
    """Return one frame as bytes."""
    return HEADER.pack(kind, len(body)) + body


class Frames:
    """Take frames out of the pieces in which they arrive."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def feed(self, piece: bytes) -> list[tuple[bytes, bytes]]:
        """Return the frames that `piece` completes.

        Raises:
            HungUpError: a length is out of bounds, so the other side is not who it should be.
        """
        self._waiting += piece
        done: list[tuple[bytes, bytes]] = []
        while len(self._waiting) >= HEADER.size:
            kind, length = HEADER.unpack_from(self._waiting)
            if length > MAX_FRAME:
                raise HungUpError
            end = HEADER.size + length
            if len(self._waiting) < end:
                break
            done.append((kind, bytes(self._waiting[HEADER.size : end])))
            del self._waiting[:end]
        return done
