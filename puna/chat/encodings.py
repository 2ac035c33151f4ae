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

from puna.tokenizer.interface import Tokenizer

MAX_TOKENS = 2**20  # ids remembered for one tokenizer, about 40 MB with their texts
_ENTRY = 32  # what an entry costs beside its ids, in ids


class Encodings:
    """The ids of the texts that one tokenizer met last; the oldest give way."""

    def __init__(self, tok: Tokenizer, max_tokens: int = MAX_TOKENS) -> None:
        self._tok = weakref.ref(tok)
        self._max = max_tokens
        self._ids: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        self._tokens = 0
        self._lock = threading.Lock()  # a server renders in several threads

    @property
    def tokens(self) -> int:
        """How many ids are remembered, entries counted in."""
        return self._tokens

    def encode(self, text: str) -> Sequence[int]:
        """Return the ids of a text."""
        ids = self._ids.get(text)
        if ids is not None:
            self._touch(text)
            return ids
        tok = self._tok()
        assert tok is not None  # whoever renders holds the tokenizer
        ids = tuple(tok.encode(text))
        self._keep(text, ids)
        return ids

    def _touch(self, text: str) -> None:
        with self._lock:
            if text in self._ids:
                self._ids.move_to_end(text)

    def _keep(self, text: str, ids: tuple[int, ...]) -> None:
        cost = len(ids) + _ENTRY
        if cost > self._max // 4:
            return  # one long text must not drive out a whole dialog
        with self._lock:
            if text in self._ids:
                return
            self._ids[text] = ids
            self._tokens += cost
            while self._tokens > self._max:
                _, oldest = self._ids.popitem(last=False)
                self._tokens -= len(oldest) + _ENTRY


# One memory a tokenizer, which ends with it: formats are made anew for every request.
_OF: weakref.WeakKeyDictionary[Tokenizer, Encodings] = weakref.WeakKeyDictionary()


def encodings_of(tok: Tokenizer) -> Encodings:
    """Return the memory that all formats of one tokenizer share."""
    found = _OF.get(tok)
    if found is None:
        found = _OF.setdefault(tok, Encodings(tok))
    return found
