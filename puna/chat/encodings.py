"""Texts that were encoded before: a dialog that grows by a turn costs the turn.

Every rendering of a dialog encodes all its bodies again, and most of them were encoded in the last
rendering. The ids of a text depend on the tokenizer and the text alone (bodies, roles and blank
lines are encoded by themselves), so they can be remembered whatever the dialect, the options and
the messages around are, and no result depends on whether they were.
"""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence

from puna.tokenizer.interface import AddsSpace, Tokenizer

MAX_TOKENS = 2**20  # ids remembered for one tokenizer, about 40 MB with their texts
_ENTRY = 32  # what an entry costs beside its ids, in ids


Parts = tuple[tuple[str, bool], ...]  # texts, and whether the assistant is trained to say them
Found = tuple[tuple[int, ...], tuple[int, ...]]  # ids, and a flag for each where parts were given


class Encodings:
    """The ids of the texts that one tokenizer met last; the oldest give way."""

    def __init__(self, tok: Tokenizer, max_tokens: int = MAX_TOKENS) -> None:
        self._tok = weakref.ref(tok)
        self._max = max_tokens
        self._found: OrderedDict[str | Parts, Found] = OrderedDict()
        self._tokens = 0
        self._lock = threading.Lock()  # a server renders in several threads

    @property
    def tokens(self) -> int:
        """How many ids are remembered, entries counted in."""
        return self._tokens

    def encode(self, text: str) -> Sequence[int]:
        """Return the ids of a text."""
        found = self._recall(text)
        return found[0] if found else self._keep(text, (tuple(self._encoder.encode(text)), ()))[0]

    def encode_parts(self, parts: Parts) -> Found:
        """Return the ids of texts that are encoded as one; a token counts for the part it enters.

        Returns:
            The ids, and for each of them 1 where any byte of it belongs to a trained part.
        """
        found = self._recall(parts)
        return found or self._keep(parts, _encode_parts(self._encoder, parts))

    @property
    def _encoder(self) -> Tokenizer:
        tok = self._tok()
        assert tok is not None  # whoever renders holds the tokenizer
        return tok

    def _recall(self, key: str | Parts) -> Found | None:
        with self._lock:
            found = self._found.get(key)
            if found is not None:
                self._found.move_to_end(key)
            return found

    def _keep(self, key: str | Parts, found: Found) -> Found:
        cost = _cost(found)
        if cost > self._max // 4:
            return found  # one long text must not drive out a whole dialog
        with self._lock:
            if key not in self._found:
                self._found[key] = found
                self._tokens += cost
            while self._tokens > self._max:
                self._tokens -= _cost(self._found.popitem(last=False)[1])
        return found


def _cost(found: Found) -> int:
    return _ENTRY + len(found[0]) + len(found[1])


def _encode_parts(tok: Tokenizer, parts: Parts) -> Found:
    ids = tok.encode("".join(text for text, _ in parts))
    flags = b"".join(bytes([trained]) * len(text.encode()) for text, trained in parts)
    start = 0  # where in the text the token begins; one before it where a space was added
    if isinstance(tok, AddsSpace) and tok.adds_space:
        start = len(flags) - sum(len(tok.piece(token)) for token in ids)
    last, is_last_trained = parts[-1]
    border = len(flags) - len(last.encode())
    mask: list[int] = []
    for token in ids:
        if start >= border:
            break  # all that follows is of the last part
        end = start + len(tok.piece(token))
        mask.append(int(any(flags[max(start, 0) : end])))
        start = end
    mask += [int(is_last_trained)] * (len(ids) - len(mask))
    return tuple(ids), tuple(mask)


# One memory a tokenizer, which ends with it: formats are made anew for every request.
_OF: weakref.WeakKeyDictionary[Tokenizer, Encodings] = weakref.WeakKeyDictionary()


def encodings_of(tok: Tokenizer) -> Encodings:
    """Return the memory that all formats of one tokenizer share."""
    found = _OF.get(tok)
    if found is None:
        found = _OF.setdefault(tok, Encodings(tok))
    return found
