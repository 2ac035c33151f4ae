"""The rows of a batch and what they have read: by the native runner where it can, else by torch.

`puna.infer.batch` asks three things: read the prompts, read one more token of every row, keep these
rows. `NativeRows` keeps each row in pages of its own, so that a row that leaves costs no copying
and the cache grows by pages; `TorchRows` keeps one contiguous block (`puna.model.cache`).
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from puna.infer.graphs import GraphRunner
from puna.infer.prefill import read_prompts
from puna.infer.runner import PAGE_TOKENS, PagedCache, Part, Runner, refuse_cache
from puna.model.cache import KVCache
from puna.model.llama import Llama

FIRST_ROOM = 256  # tokens that a fresh cache holds beyond the prompts; it doubles when full


class Rows(Protocol):
    """Rows that are read together."""

    def read_prompts(self, prompts: Sequence[Sequence[int]], *, tokens_at_once: int) -> Tensor:
        """Read every prompt; return the logits after each, [B, V]."""

    def read_next(self, ids: Tensor) -> Tensor:
        """Read one more token of each row; return the logits after it, [B, V]."""

    def keep(self, places: Sequence[int]) -> None:
        """Keep the rows at these places; the others are forgotten."""


def rows_of(model: Llama, limits: Sequence[int], *, cache_dtype: torch.dtype | None = None) -> Rows:
    """Return rows that may each write up to its limit of tokens.

    Args:
        cache_dtype: of the native cache; None takes what suits the weights.
    """
    runner = Runner.of(model) or GraphRunner.of(model)
    if runner is None:
        refuse_cache(cache_dtype)
        return TorchRows(model, limits)
    if isinstance(runner, GraphRunner):
        refuse_cache(cache_dtype)
    return NativeRows(runner, limits, cache_dtype)


class NativeRows:
    """Rows in pages, read by the native decoder, or on a GPU by recorded steps."""

    def __init__(
        self,
        runner: Runner | GraphRunner,
        limits: Sequence[int],
        cache_dtype: torch.dtype | None = None,
    ) -> None:
        self._runner, self._limits = runner, list(limits)
        self._pages: list[list[int]] = [[] for _ in limits]
        self._held = [0] * len(limits)
        self._free: list[int] = []
        self._cache: PagedCache | None = None
        own = torch.float32 if runner.format == "f32" else torch.bfloat16
        self._dtype = own if cache_dtype is None else cache_dtype

    def read_prompts(self, prompts: Sequence[Sequence[int]], *, tokens_at_once: int) -> Tensor:
        """Read every prompt; the decoder bounds its own memory, so `tokens_at_once` is not used."""
        return self._read(prompts)

    def read_next(self, ids: Tensor) -> Tensor:
        """Read one more token of each row; return the logits after it, [B, V]."""
        return self._read([[token] for token in ids.tolist()])

    def keep(self, places: Sequence[int]) -> None:
        """Keep the rows at these places; the pages of the others are free."""
        for place in set(range(len(self._held))) - set(places):
            self._free += self._pages[place]
        self._pages = [self._pages[place] for place in places]
        self._held = [self._held[place] for place in places]
        self._limits = [self._limits[place] for place in places]

    def _read(self, texts: Sequence[Sequence[int]]) -> Tensor:
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
        return self._runner.step(parts, self._cache)

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
        runner = self._runner
        new = PagedCache(runner.config, max(total, pages), dtype=self._dtype, device=runner.device)
        begin = 0
        if old is not None:
            begin = old.pages
            for mine, theirs in zip(new.parts(), old.parts(), strict=True):
                mine[:, :begin] = theirs
        self._free += range(begin, new.pages)
        self._cache = new


class TorchRows:
    """Rows in one block, read by the model's own forward pass."""

    def __init__(self, model: Llama, limits: Sequence[int]) -> None:
        self._model, self._limits = model, list(limits)
        self._prompts: list[int] = []  # tokens of each row's prompt
        self._cache: KVCache | None = None

    def read_prompts(self, prompts: Sequence[Sequence[int]], *, tokens_at_once: int) -> Tensor:
        """Read every prompt; return the logits after each, [B, V]."""
        self._prompts = [len(prompt) for prompt in prompts]
        room = min(FIRST_ROOM, max(self._limits))
        self._cache, logits = read_prompts(
            self._model, prompts, room=room, tokens_at_once=tokens_at_once
        )
        return logits

    def read_next(self, ids: Tensor) -> Tensor:
        """Read one more token of each row; return the logits after it, [B, V]."""
        self._make_room()
        device = self._model.embed.weight.device
        return self._model(ids[:, None].to(device), cache=self._cache)[:, -1]  # type: ignore[no-any-return]

    def keep(self, places: Sequence[int]) -> None:
        """Keep the rows at these places."""
        assert self._cache is not None
        self._prompts = [self._prompts[place] for place in places]
        self._limits = [self._limits[place] for place in places]
        self._cache.keep(torch.tensor(places, device=self._cache.keys.device))

    def _make_room(self) -> None:
        """Double the cache when its longest row is full, up to what the rows may still need."""
        old = self._cache
        assert old is not None
        held = int(old.lengths.max())
        if held < old.capacity:
            return
        needed = max(sum(row) for row in zip(self._prompts, self._limits, strict=True))
        new = KVCache(
            self._model.config,
            old.batch,
            min(2 * held, needed),
            dtype=old.keys.dtype,
            device=old.keys.device,
        )
        new.keys[:, :, :held], new.values[:, :, :held] = old.keys, old.values
        new.lengths = old.lengths
        self._cache = new
