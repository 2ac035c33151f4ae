"""Small models and text for the tests of this folder."""

from dataclasses import replace

import torch
from torch import Tensor

from puna.model.cache import KVCache
from puna.model.config import ModelConfig
from puna.model.init import initialise
from puna.model.llama import Llama

TINY = ModelConfig(
    width=96, layers=4, heads=6, kv_heads=2, mlp_width=160, vocab=70, context=64, norm_eps=1e-6
)


def tiny_model(*, tied: bool = False, seed: int = 0, dtype: torch.dtype = torch.float32) -> Llama:
    """Return a random model whose weights are large enough to make its logits differ."""
    model = Llama(replace(TINY, tied=tied))
    initialise(model, seed=seed, std=0.15)
    return model.to(dtype).eval().requires_grad_(False)


def rows(model: Llama, count: int = 6, tokens: int = 24, seed: int = 0) -> Tensor:
    """Return random ids."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(model.config.vocab, (count, tokens), generator=generator)


@torch.no_grad()
def written(model: Llama, count: int, tokens: int, *, bos: int, seed: int) -> Tensor:
    """Let a model write text: drawn from its own distribution, so its perplexity is least."""
    generator = torch.Generator().manual_seed(seed)
    ids = now = torch.full((count, 1), bos)
    cache = KVCache(model.config, count, tokens)
    while ids.shape[1] < tokens:
        scores = model(now, cache=cache)[:, -1]
        now = torch.multinomial(scores.softmax(-1), 1, generator=generator)
        ids = torch.cat((ids, now), dim=1)
    return ids
