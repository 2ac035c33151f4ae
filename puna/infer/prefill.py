"""Reading the prompts: in chunks, so that memory stays bounded, and like with like.

Rows of similar length are read together, so that padding never costs more than the prompts; their
keys and values then meet in one cache, where `puna.infer.batch` decodes them together.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from puna.model.cache import KVCache
from puna.model.llama import Llama

SHORT_TOKENS = 64  # rows up to this length are read together, whatever their lengths


def read_prompts(
    model: Llama, prompts: Sequence[Sequence[int]], *, room: int, tokens_at_once: int
) -> tuple[KVCache, Tensor]:
    """Read every prompt.

    Args:
        prompts: the ids of each row, at least one.
        room: tokens that the cache shall hold beyond the longest prompt.
        tokens_at_once: of one group, padding included.
    Returns:
        The cache that holds the prompts, and the logits after each one's last token, [B, V].
    """
    groups = similar_lengths([len(prompt) for prompt in prompts])
    if len(groups) == 1:
        return _read_group(model, prompts, room=room, tokens_at_once=tokens_at_once)
    weight = model.embed.weight
    capacity = max(map(len, prompts)) + room
    cache = KVCache(model.config, len(prompts), capacity, dtype=weight.dtype, device=weight.device)
    logits = torch.empty(len(prompts), model.config.vocab, device=weight.device)
    for rows in groups:
        part, logits[rows] = _read_group(
            model, [prompts[row] for row in rows], room=0, tokens_at_once=tokens_at_once
        )
        cache.keys[:, rows, : part.capacity] = part.keys
        cache.values[:, rows, : part.capacity] = part.values
        cache.lengths[rows] = part.lengths
    return cache, logits


def similar_lengths(lengths: Sequence[int]) -> list[list[int]]:
    """Divide rows into groups whose longest has at most twice the tokens of the shortest."""
    groups: list[list[int]] = []
    shortest = 0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not groups or lengths[row] > max(2 * shortest, SHORT_TOKENS):
            groups.append([])
            shortest = lengths[row]
        groups[-1].append(row)
    return groups


def _read_group(
    model: Llama, prompts: Sequence[Sequence[int]], *, room: int, tokens_at_once: int
) -> tuple[KVCache, Tensor]:
    """Read rows padded on the right, chunk by chunk; each row's logits come from its last chunk."""
    weight = model.embed.weight
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    longest = int(lengths.max())
    cache = KVCache(
        model.config, len(prompts), longest + room, dtype=weight.dtype, device=weight.device
    )
    ids = torch.zeros(len(prompts), longest, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt)
    width = max(1, tokens_at_once // len(prompts))
    after: Tensor | None = None
    for start in range(0, longest, width):
        piece = ids[:, start : start + width].to(weight.device)
        counts = (lengths - start).clamp(0, piece.shape[1])
        last = (counts - 1).clamp_min(0)
        logits = model(piece, cache=cache, counts=counts, last=last)
        ends_here = ((counts > 0) & (lengths <= start + width)).to(weight.device)
        after = logits if after is None else torch.where(ends_here[:, None], logits, after)
    assert after is not None
    return cache, after
