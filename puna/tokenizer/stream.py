"""Ids become text one at a time, and no character is ever shown in halves.

A token may hold part of a character; its bytes wait until the character is whole. The pieces,
joined, are exactly what decoding all ids at once gives.
"""

import codecs
from collections.abc import Sequence

from puna.tokenizer.interface import AddsSpace, Tokenizer


class StreamDecoder:
    """Decode a growing sequence of ids.

    Args of the constructor:
        tok: the tokenizer.
        skip_special: leave special tokens out of the text.
        after: ids that stand before the first id of the stream, such as the prompt. Only
            tokenizers that put a space before a text (Llama 1 and 2) look at them: at the start of
            a text that space is taken away, in the middle it is a word's own space.
    """

    def __init__(
        self, tok: Tokenizer, skip_special: bool = True, *, after: Sequence[int] = ()
    ) -> None:
        self._bytes = _Bytes(tok, skip_special)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._bytes.pass_over_all(after)

    def feed(self, token_id: int) -> str:
        """Return the text that `token_id` completes; it may be empty."""
        return self._utf8.decode(self._bytes.of(token_id))

    def flush(self) -> str:
        """Return what is left at the end: U+FFFD for a character that was never completed."""
        return self._utf8.decode(b"", final=True)


def decode_bytes_with_space(tok: Tokenizer, ids: Sequence[int], *, skip_special: bool) -> bytes:
    """Return the bytes of `ids` without the space that was put before each text."""
    return b"".join(map(_Bytes(tok, skip_special).of, ids))


class _Bytes:
    """The bytes of one id after another, knowing whether a text has begun."""

    def __init__(self, tok: Tokenizer, skip_special: bool) -> None:
        self._tok = tok
        self._skip_special = skip_special
        self._special_ids = frozenset(tok.specials.values())
        self._drops_space = isinstance(tok, AddsSpace) and tok.adds_space
        self._at_start = True

    def of(self, token_id: int) -> bytes:
        piece = self._tok.piece(token_id)
        if token_id in self._special_ids:
            piece = b"" if self._skip_special else piece
        elif self._at_start and self._drops_space:
            piece = piece.removeprefix(b" ")
        self.pass_over(token_id)
        return piece

    def pass_over_all(self, ids: Sequence[int]) -> None:
        """Pass over many: the last that decides decides, and of a long prompt no other is read."""
        for token_id in reversed(ids):
            if token_id not in self._special_ids or token_id == self._tok.bos_id:
                self.pass_over(token_id)
                return

    def pass_over(self, token_id: int) -> None:
        if token_id not in self._special_ids:
            self._at_start = False
        elif token_id == self._tok.bos_id:
            self._at_start = True
