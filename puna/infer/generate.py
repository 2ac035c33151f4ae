"""Prompts of any lengths decode in one batch, and each comes out as if it ran alone.

On the native kernels (`puna.infer.decoder`) a row's logits are those of its own run to the bit, in
every format. Where torch computes, its ids are, in float32, and its logits up to rounding: torch
sums the products of one row and of several in different orders; measured on the CPU, 1e-5 where
logits reach 6.7. `puna.llm` stands above this and speaks text; here there are only ids.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from puna.infer.batch import PREFILL_TOKENS, Batch, NewToken
from puna.infer.decoder import CacheName
from puna.infer.mapped_model import MappedModel
from puna.infer.sampling import SamplingConfig

if TYPE_CHECKING:
    from puna.model.llama import Llama


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What one row wrote."""

    ids: tuple[int, ...]  # the stop id included, where one ended the row
    finish_reason: str  # "stop": a stop id or the caller; "length": max_tokens or the context


def generate_ids(
    model: "Llama | MappedModel",
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int | None = None,
    sampling: SamplingConfig | Sequence[SamplingConfig],
    stop_ids: Sequence[int] | frozenset[int] = (),
    ignore_eos: bool = False,
    on_token: Callable[[int, int], bool | None] | None = None,
    prefill_tokens: int = PREFILL_TOKENS,
    kv_cache: CacheName | None = None,
) -> list[Generation]:
    """Continue every prompt and return what each row wrote, in the order of the prompts.

    Args:
        max_tokens: most tokens a row may write; None allows what fits into the context.
        sampling: one config for all rows, or one a row. Rows that share a seed draw the same
            numbers, each as it would alone.
        stop_ids: ids that end a row.
        ignore_eos: write on past stop ids.
        on_token: told (row, id) of every token; when it answers true, the row ends there.
        prefill_tokens: tokens of the prompts that are read at once.
        kv_cache: what the native decoder keeps keys and values in; None takes what suits the
            weights.
    Raises:
        RequestError: a prompt has no tokens or ids beyond the vocabulary.
        ContextError: a prompt, or a prompt and its explicit `max_tokens`, does not fit.
    """
    batch = Batch(
        model,
        prompts,
        max_tokens=max_tokens,
        sampling=sampling,
        stop_ids=() if ignore_eos else stop_ids,
        prefill_tokens=prefill_tokens,
        kv_cache=kv_cache,
    )
    written: list[list[int]] = [[] for _ in prompts]
    reasons = ["length"] * len(prompts)
    while batch.is_running:
        for token in batch.step():
            written[token.row].append(token.id)
            wants_stop = on_token is not None and bool(on_token(token.row, token.id))
            if token.finish_reason is not None:
                reasons[token.row] = token.finish_reason
            if wants_stop:
                reasons[token.row] = "stop"
                batch.end(token.row)
    return [
        Generation(ids=tuple(ids), finish_reason=reason)
        for ids, reason in zip(written, reasons, strict=True)
    ]


def stream_ids(
    model: "Llama | MappedModel",
    prompt: Sequence[int],
    *,
    max_tokens: int | None = None,
    sampling: SamplingConfig,
    stop_ids: Sequence[int] | frozenset[int] = (),
    ignore_eos: bool = False,
    prefill_tokens: int = PREFILL_TOKENS,
    kv_cache: CacheName | None = None,
) -> Iterator[NewToken]:
    """Yield the tokens of one prompt as they are drawn; arguments as in `generate_ids`.

    The prompt is checked at the call, not at the first token. The caller may stop at any time.
    """
    batch = Batch(
        model,
        [prompt],
        max_tokens=max_tokens,
        sampling=sampling,
        stop_ids=() if ignore_eos else stop_ids,
        prefill_tokens=prefill_tokens,
        kv_cache=kv_cache,
    )
    return (token for _ in iter(lambda: batch.is_running, False) for token in batch.step())
