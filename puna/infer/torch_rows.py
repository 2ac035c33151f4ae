"""The rows of a batch where a model is torch's: wrapped for the kernels, recorded, or as it is.

A Llama in memory that the native decoder reads goes there; on a GPU recorded steps read pages;
everything else is the model's own forward pass over one contiguous block (`puna.model.cache`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from puna.infer.decoder import CacheName
from puna.infer.graphs import GraphRunner
from puna.infer.prefill import read_prompts
from puna.infer.rows import FIRST_ROOM, PagedRows, Rows, decoded_rows
from puna.infer.runner import CACHES, PagedCache, Runner, refuse_cache
from puna.model.cache import KVCache
from puna.model.llama import Llama


def rows_of_module(model: Llama, limits: Sequence[int], kv_cache: CacheName | None) -> Rows:
    """Return rows of a model in memory; the arguments are those of `rows_of`."""
    if (runner := Runner.of(model)) is not None:
        return decoded_rows(runner.decoder, limits, kv_cache)
    refuse_cache(None if kv_cache is None else CACHES[kv_cache])
    if (graphs := GraphRunner.of(model)) is not None:
        dtype = torch.float32 if graphs.format == "f32" else torch.bfloat16

        def new_cache(pages: int) -> PagedCache:
            return PagedCache(model.config, pages, dtype=dtype, device=graphs.device)

        return PagedRows(graphs, limits, new_cache)
    return TorchRows(model, limits)


class TorchRows:
    """Rows in one block, read by the model's own forward pass."""

    def __init__(self, model: Llama, limits: Sequence[int]) -> None:
        self._model, self._limits = model, list(limits)
        self._prompts: list[int] = []  # tokens of each row's prompt
        self._cache: KVCache | None = None

    @torch.inference_mode()
    def read_prompts(self, prompts: Sequence[Sequence[int]], *, tokens_at_once: int) -> Tensor:
        """Read every prompt; return the logits after each, [B, V]."""
        self._prompts = [len(prompt) for prompt in prompts]
        room = min(FIRST_ROOM, max(self._limits))
        self._cache, logits = read_prompts(
            self._model, prompts, room=room, tokens_at_once=tokens_at_once
        )
        return logits

    @torch.inference_mode()
    def read_next(self, ids: Sequence[int]) -> Tensor:
        """Read one more token of each row; return the logits after it, [B, V]."""
        self._make_room()
        device = self._model.embed.weight.device
        next_ids = torch.tensor(ids, device=device)[:, None]
        logits: Tensor = self._model(next_ids, cache=self._cache)
        return logits[:, -1]

    @torch.inference_mode()
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
