"""How an engine is set up, how many pages its cache gets, and what fits into it."""

from dataclasses import dataclass

import psutil
import torch

from puna.errors import ConfigError, ContextError, RequestError
from puna.infer.batch import limit_of
from puna.infer.pages import PagePool
from puna.infer.request import Request
from puna.infer.runner import PAGE_TOKENS, SMALL_CACHES
from puna.model.config import ModelConfig
from puna.model.llama import Llama

MEMORY_SHARE = 0.3  # of the memory that is free when the engine starts


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """The limits of one engine."""

    cache_tokens: int | None = None  # tokens that the cache holds; None takes what memory allows
    page_tokens: int = PAGE_TOKENS
    cache_dtype: torch.dtype | None = None  # None takes that of the weights; int8 and fp8 halve it
    most_running: int = 64  # samples that run together
    tokens_a_step: int = 512  # of all sequences; bounds how long a prompt makes others wait
    queue_limit: int = 256  # requests that may wait
    draft_tokens: int = 0  # guesses a step and sequence, at most; 0 drafts nothing
    is_native: bool = True  # False computes with torch even where the native decoder could

    def __post_init__(self) -> None:
        for name in ("page_tokens", "most_running", "tokens_a_step", "queue_limit"):
            if getattr(self, name) < 1:
                raise ConfigError(f"engine: {name}={getattr(self, name)} must be at least 1.")
        if self.draft_tokens < 0:
            raise ConfigError(f"engine: draft_tokens={self.draft_tokens} must be at least 0.")
        if self.tokens_a_step < self.most_running:
            raise ConfigError(
                f"engine: tokens_a_step={self.tokens_a_step} must be at least most_running="
                f"{self.most_running}, so that every sample can write in every step."
            )
        if self.cache_tokens is not None and self.cache_tokens < self.page_tokens:
            raise ConfigError(
                f"engine: cache_tokens={self.cache_tokens} must be at least one page of "
                f"{self.page_tokens} tokens."
            )


def cache_pages(model: Llama, config: EngineConfig) -> int:
    """Return how many pages the cache gets: what was asked for, else what memory allows.

    Never more than all samples could fill. A context that is longer than the cache is no error
    here: a request that is too long for the cache is refused when it comes.
    """
    Z = config.page_tokens
    if config.cache_tokens is not None:
        return config.cache_tokens // Z
    useful = config.most_running * -(-model.config.context // Z)
    kind = config.cache_dtype or model.embed.weight.dtype
    token_bytes = model.config.cache_bytes_per_token(kind.itemsize)
    if kind in SMALL_CACHES:  # with a float32 scale for each head
        token_bytes += 4 * token_bytes // model.config.head_width
    page_bytes = Z * token_bytes
    return max(1, min(useful, int(_free_bytes(model) * MEMORY_SHARE) // page_bytes))


def _free_bytes(model: Llama) -> int:
    device = model.embed.weight.device
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def room_of(model: ModelConfig, pages: int, page_tokens: int) -> int:
    """Return how many tokens one sequence may have: the context, or less where pages are few."""
    return min(model.context, pages * page_tokens)


def limit_in(
    config: EngineConfig, request: Request, model: ModelConfig, pool: PagePool, *, has_text: bool
) -> int:
    """Return how many tokens a sample may write, or say why it cannot be served."""
    prompt = request.ids
    if request.samples > config.most_running:
        raise RequestError(
            f"engine: {request.samples} samples of one prompt were asked for; at most "
            f"{config.most_running} run together. Ask for fewer, or several times."
        )
    if request.stop and not has_text:
        raise RequestError(
            "engine: stop strings were given and the engine has no tokenizer; text needs one. "
            "Give stop_ids instead."
        )
    wrong = [token for token in request.logit_bias if not 0 <= token < model.vocab]
    if wrong:
        raise RequestError(
            f"request: logit_bias names the id {wrong[0]}; ids from 0 to {model.vocab - 1} "
            "are expected. Use the tokenizer that belongs to the weights."
        )
    room = room_of(model, pool.pages, pool.page_tokens)
    if request.max_tokens == 0:
        limit_of(prompt, None, model.context, model.vocab, name="the prompt")
        limit = 0
    else:
        limit = limit_of(prompt, request.max_tokens, model.context, model.vocab, name="the prompt")
    if request.max_tokens is None:
        limit = max(1, room - len(prompt))
    if len(prompt) + limit > room:
        raise ContextError(
            f"engine: the prompt has {len(prompt)} tokens and {limit} more were asked for; the "
            f"cache holds {room} tokens of one sequence. Shorten the prompt, ask for fewer "
            "tokens, or start the engine with more cache_tokens."
        )
    return limit
