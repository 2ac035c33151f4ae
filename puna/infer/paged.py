"""A model that reads the next tokens of many sequences, whose keys and values lie in pages.

`NativePages` hands the page tables to the native decoder: a sequence's logits then are the same to
the bit in any company and however its tokens are divided. `TorchPages` runs the model's own forward
pass on any device, on a contiguous copy of the pages; there logits are the same up to rounding.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from puna.infer.graphs import GraphRunner
from puna.infer.runner import (
    PAGE_TOKENS,
    SMALL_CACHES,
    PagedCache,
    Part,
    Runner,
    refuse_cache,
)
from puna.model.cache import KVCache
from puna.model.llama import Llama


class PagedModel(Protocol):
    """What the engine asks of a model."""

    pages: int
    page_tokens: int
    is_exact: bool  # whether logits are the same to the bit in any company
    lanes: int  # reads that may be under way together

    def read(self, parts: Sequence[Part]) -> Tensor:
        """Read the tokens of every part; return the logits that `Runner.step` describes."""

    def begin(self, parts: Sequence[Part]) -> Callable[[], Tensor]:
        """Begin to read; return what waits for the logits, to be called in the order of begins."""

    def copy(self, source: int, target: int) -> None:
        """Copy a page onto another."""


def paged_model(
    model: Llama,
    pages: int,
    *,
    page_tokens: int = PAGE_TOKENS,
    dtype: torch.dtype | None = None,
    is_native: bool = True,
) -> PagedModel:
    """Return a model with a cache of this many pages: the native decoder where it can.

    Args:
        dtype: of the cache; None takes that of the weights (bfloat16 for weights of few bits).
        is_native: False takes torch in any case.
    """
    runner = (Runner.of(model) or GraphRunner.of(model)) if is_native else None
    if runner is None or isinstance(runner, GraphRunner):
        # torch would cut keys to whole numbers, or to e4m3 without scales
        refuse_cache(dtype if dtype in SMALL_CACHES else None)
    if runner is None:
        return TorchPages(model, pages, page_tokens=page_tokens, dtype=dtype)
    own = torch.float32 if runner.format == "f32" else torch.bfloat16
    if dtype is None or isinstance(runner, GraphRunner):
        dtype = own
    cache = PagedCache(
        model.config, pages, page_tokens=page_tokens, dtype=dtype, device=runner.device
    )
    return NativePages(runner, cache)


class NativePages:
    """Pages that the native decoder, or a GPU's recorded step, reads where they lie."""

    lanes = 1

    def __init__(self, runner: Runner | GraphRunner, cache: PagedCache) -> None:
        self.is_exact = runner.is_exact
        self._runner, self._cache = runner, cache
        self.pages, self.page_tokens = cache.pages, cache.page_tokens

    def read(self, parts: Sequence[Part]) -> Tensor:
        """Read the tokens of every part in one call."""
        return self._runner.step(parts, self._cache)

    def begin(self, parts: Sequence[Part]) -> Callable[[], Tensor]:
        """Read when the logits are wanted."""
        return partial(self.read, parts)

    def copy(self, source: int, target: int) -> None:
        """Copy a page onto another."""
        for part in self._cache.parts():
            part[:, target] = part[:, source]


class TorchPages:
    """Pages in tensors [L, P, Z, K, E] beside a model that torch computes."""

    is_exact, lanes = False, 1

    def __init__(
        self, model: Llama, pages: int, *, page_tokens: int, dtype: torch.dtype | None = None
    ) -> None:
        c, weight = model.config, model.embed.weight
        shape = (c.layers, pages, page_tokens, c.kv_heads, c.head_width)
        kind = weight.dtype if dtype is None else dtype
        self._keys, self._values = (
            torch.zeros(shape, dtype=kind, device=weight.device) for _ in range(2)
        )
        self._model, self.config = model, model.config
        self.pages, self.page_tokens = pages, page_tokens

    @torch.inference_mode()
    def read(self, parts: Sequence[Part]) -> Tensor:
        """Read all single tokens in one pass, and every longer part in a pass of its own."""
        single = [place for place, part in enumerate(parts) if len(part.ids) == 1]
        groups = [single] if single else []
        groups += [[place] for place, part in enumerate(parts) if len(part.ids) > 1]
        rows: dict[int, Tensor] = {}
        for group in groups:
            logits = self._read([parts[place] for place in group])
            rows |= dict(zip(group, logits, strict=True))
        return torch.cat([rows[place] for place in range(len(parts))])

    def begin(self, parts: Sequence[Part]) -> Callable[[], Tensor]:
        """Read when the logits are wanted."""
        return partial(self.read, parts)

    def _read(self, parts: Sequence[Part]) -> list[Tensor]:
        """Read parts of equal length; return the wanted logits of each, [1 or T, V]."""
        T = len(parts[0].ids)
        Z, device = self.page_tokens, self._keys.device
        used = max(-(-(part.held + T) // Z) for part in parts)
        tables = torch.zeros(len(parts), used, dtype=torch.int64)
        for row, part in enumerate(parts):
            pages = list(part.pages[:used])
            tables[row, : len(pages)] = torch.tensor(pages)
        tables = tables.to(device)
        model = self._model
        cache = KVCache(model.config, len(parts), 0, dtype=self._keys.dtype, device=device)
        cache.keys = self._keys[:, tables].flatten(2, 3)
        cache.values = self._values[:, tables].flatten(2, 3)
        cache.lengths = torch.tensor([part.held for part in parts])
        ids = torch.tensor([list(part.ids) for part in parts], device=device)
        if any(part.wants_all for part in parts):
            logits = model(ids, cache=cache)
        else:
            last = torch.full((len(parts),), T - 1, device=device)
            logits = model(ids, cache=cache, last=last)[:, None]
        rows = torch.arange(len(parts), device=device)[:, None]
        at = torch.tensor([part.held for part in parts], device=device)[:, None]
        at = at + torch.arange(T, device=device)
        pages_at = tables.gather(1, at // Z)
        self._keys[:, pages_at, at % Z] = cache.keys[:, rows, at]
        self._values[:, pages_at, at % Z] = cache.values[:, rows, at]
        return [
            logits[row] if part.wants_all else logits[row, -1:] for row, part in enumerate(parts)
        ]

    def copy(self, source: int, target: int) -> None:
        """Copy a page onto another."""
        for part in (self._keys, self._values):
            part[:, target] = part[:, source]
