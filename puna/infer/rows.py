"""The rows of a batch and what they have read: by the native decoder where it can, else by torch.

`puna.infer.batch` asks three things: read the prompts, read one more token of every row, keep these
rows. `PagedRows` keeps each row in pages of its own, so that a row that leaves costs no copying
and the cache grows by pages; `puna.infer.torch_rows` keeps one contiguous block, and is imported
for a model that is torch's alone.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from puna.infer.decoder import PAGE_TOKENS, Cache, CacheName, Decoder, Pages, Part
from puna.infer.mapped_model import MappedModel
from puna.infer.sampling import Logits

if TYPE_CHECKING:
    from puna.model.llama import Llama

FIRST_ROOM = 256  # tokens that a fresh cache holds beyond the prompts; it doubles when full


class Rows(Protocol):
    """Rows that are read together."""

    def read_prompts(self, prompts: Sequence[Sequence[int]], *, tokens_at_once: int) -> Logits:
        """Read every prompt; return the logits after each, [B, V]."""

    def read_next(self, ids: Sequence[int]) -> Logits:
        """Read one more token of each row; return the logits after it, [B, V]."""

    def keep(self, places: Sequence[int]) -> None:
        """Keep the rows at these places; the others are forgotten."""


def rows_of(
    model: "Llama | MappedModel", limits: Sequence[int], *, kv_cache: CacheName | None = None
) -> Rows:
    """Return rows that may each write up to its limit of tokens.

    Args:
        kv_cache: what the native decoder keeps keys and values in; None takes what suits the
            weights.
    """
    if isinstance(model, MappedModel):
        return decoded_rows(decoder_of(model), limits, kv_cache)
    from puna.infer.torch_rows import rows_of_module

    return rows_of_module(model, limits, kv_cache)


def decoder_of(model: MappedModel) -> Decoder:
    """Return the native decoder of a model that runs from its file."""
    return Decoder(model.config, model.matrices, model.norms, model.freqs, level=model.level)


def decoded_rows(decoder: Decoder, limits: Sequence[int], kv_cache: CacheName | None) -> Rows:
    """Return rows that the native decoder reads."""
    kind = kv_cache or decoder.cache_kind
    return PagedRows(decoder, limits, lambda pages: Pages(decoder.config, pages, kind=kind))


class Reader(Protocol):
    """A model that reads pages: the native decoder, or on a GPU recorded steps."""

    def step(self, parts: Sequence[Part], cache: Any) -> Logits:
        """Read the tokens of every part and return the logits after the last of each."""


class PagedRows:
    """Rows in pages of one cache, which grows."""

    def __init__(
        self, reader: Reader, limits: Sequence[int], new_cache: Callable[[int], Cache]
    ) -> None:
        """Take a model in.

        Args:
            new_cache: makes a cache of so many pages.
        """
        self._reader, self._limits, self._new_cache = reader, list(limits), new_cache
        self._pages: list[list[int]] = [[] for _ in limits]
        self._held = [0] * len(limits)
        self._free: list[int] = []
        self._cache: Cache | None = None

    def read_prompts(self, prompts: Sequence[Sequence[int]], *, tokens_at_once: int) -> Logits:
        """Read every prompt; the decoder bounds its own memory, so `tokens_at_once` is not used."""
        return self._read(prompts)

    def read_next(self, ids: Sequence[int]) -> Logits:
        """Read one more token of each row; return the logits after it, [B, V]."""
        return self._read([[token] for token in ids])

    def keep(self, places: Sequence[int]) -> None:
        """Keep the rows at these places; the pages of the others are free."""
        for place in set(range(len(self._held))) - set(places):
            self._free += self._pages[place]
        self._pages = [self._pages[place] for place in places]
        self._held = [self._held[place] for place in places]
        self._limits = [self._limits[place] for place in places]

    def _read(self, texts: Sequence[Sequence[int]]) -> Logits:
        needed = [
            -(-(held + len(ids)) // PAGE_TOKENS) - len(pages)
            for held, ids, pages in zip(self._held, texts, self._pages, strict=True)
        ]
        self._make_room(sum(needed), texts)
        assert self._cache is not None
        parts = []
        for row, (ids, count) in enumerate(zip(texts, needed, strict=True)):
            self._pages[row] += [self._free.pop() for _ in range(count)]
            parts.append(Part(ids=ids, held=self._held[row], pages=self._pages[row]))
            self._held[row] += len(ids)
        return self._reader.step(parts, self._cache)

    def _make_room(self, pages: int, texts: Sequence[Sequence[int]]) -> None:
        """Have this many pages free; a cache that is full grows to twice its size."""
        if pages <= len(self._free):
            return
        old = self._cache
        if old is None:
            lengths = (
                len(ids) + min(FIRST_ROOM, limit)
                for ids, limit in zip(texts, self._limits, strict=True)
            )
            total = sum(-(-length // PAGE_TOKENS) for length in lengths)
        else:
            total = 2 * old.pages + pages
        new = self._new_cache(max(total, pages))
        begin = 0
        if old is not None:
            begin = old.pages
            for mine, theirs in zip(new.parts(), old.parts(), strict=True):
                mine[:, :begin] = theirs
        self._free += range(begin, new.pages)
        self._cache = new
