"""Text that arrives in pieces, read as if it were whole.

A reader is a generator: it takes characters one after another and pauses, with a bare `yield`,
where the next one has not arrived. So one piece of grammar reads a finished answer and an answer
that is still being generated, and what it finds cannot depend on where the pieces were cut.

Every character is looked at once. Pieces are never joined while more of them arrive, so that a long
answer costs its length, whether it comes whole or token by token.
"""

import re
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")
Reading = Generator[None, None, T]  # pauses for more text, and returns a T in the end

_SPACE = re.compile(r"\s*")


class Incoming:
    """The text of one stretch: what arrived, how far it is read, and what is held back.

    `text[at:]` has arrived and is unread. Between `hold` and `release` everything that is read is
    kept, because it may turn out to be ordinary text.
    """

    __slots__ = ("_held", "_holds", "_start", "at", "is_closed", "text")

    def __init__(self, text: str = "", *, is_closed: bool = False) -> None:
        self.text = text
        self.at = 0
        self.is_closed = is_closed  # whether nothing more will arrive
        self._holds = False
        self._held: list[str] = []  # of earlier pieces
        self._start = 0  # where the held part of `text` begins

    def feed(self, text: str) -> None:
        """Take the next piece; the one before must have been read to its end."""
        if self._holds:
            self._held.append(self.text[self._start :])
            self._start = 0
        self.text = text
        self.at = 0

    def hold(self) -> None:
        """Keep what is read from here on."""
        self._holds = True
        self._held = []
        self._start = self.at

    @property
    def held(self) -> str:
        """What was read since `hold`."""
        return "".join([*self._held, self.text[self._start : self.at]])

    @property
    def held_length(self) -> int:
        """Characters read since `hold`."""
        return sum(map(len, self._held)) + self.at - self._start

    def release(self) -> str:
        """Return what was read since `hold`, and keep no more."""
        text = self.held
        self._holds = False
        self._held = []
        return text

    def unread(self, text: str) -> None:
        """Give back the characters that were read last; nothing may be held."""
        assert not self._holds
        if len(text) <= self.at:
            self.at -= len(text)
        else:  # they began in an earlier piece
            self.text = text + self.text[self.at :]
            self.at = 0

    def sign(self) -> Reading[str]:
        """Return the next character without taking it, or "" at the end."""
        while self.at == len(self.text):
            if self.is_closed:
                return ""
            yield
        return self.text[self.at]

    def sign_after_space(self) -> Reading[str]:
        """Take white space, then do the same."""
        while True:
            space = _SPACE.match(self.text, self.at)
            assert space is not None  # the pattern matches the empty text too
            self.at = space.end()
            if self.at < len(self.text):
                return self.text[self.at]
            if self.is_closed:
                return ""
            yield

    def run(self, pattern: re.Pattern[str], *, limit: int) -> Reading[str]:
        """Take characters as long as `pattern` matches them; it matches any number of them.

        A run of more than `limit` characters may be returned before its end: its caller refuses it
        or goes on, and does not look at its length.
        """
        parts: list[str] = []
        taken = 0
        while True:
            match = pattern.match(self.text, self.at)
            assert match is not None  # the pattern matches the empty text too
            parts.append(match.group())
            taken += len(parts[-1])
            self.at = match.end()
            if self.at < len(self.text) or taken > limit or self.is_closed:
                return "".join(parts)
            yield

    def starts_with(self, word: str) -> Reading[bool]:
        """Take `word`, character by character; return whether it stood there.

        Where it did not, the characters that agree are taken.
        """
        for letter in word:
            if (yield from self.sign()) != letter:
                return False
            self.at += 1
        return True


def read_whole(reader: Reading[T]) -> T:
    """Return what a reader of text that is closed returns."""
    try:
        next(reader)
    except StopIteration as end:
        found: T = end.value
        return found
    raise AssertionError("a reader of closed text does not wait for more")
