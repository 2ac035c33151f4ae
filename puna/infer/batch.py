"""Rows that decode together: read the prompts, then draw one token a row and step.

`puna.infer.rows` holds what the rows have read and reads their next tokens. A row that ends leaves
the batch and costs nothing more. `puna.infer.generate` drives it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from puna.errors import ContextError, RequestError
from puna.infer.decoder import CacheName
from puna.infer.mapped_model import MappedModel
from puna.infer.rows import Rows, rows_of
from puna.infer.sampling import SamplingConfig, sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from puna.model.llama import Llama

PREFILL_TOKENS = 2048  # of a group, read at once: bounds the memory of torch's activations


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """One step of one row."""

    row: int  # index of the prompt
    id: int
    finish_reason: str | None = None  # set on a row's last token


class Batch:
    """Rows that decode together; `step` draws one token for each row that still runs."""

    def __init__(
        self,
        model: "Llama | MappedModel",
        prompts: Sequence[Sequence[int]],
        *,
        max_tokens: int | None,
        sampling: SamplingConfig | Sequence[SamplingConfig],
        stop_ids: Sequence[int] | frozenset[int],
        prefill_tokens: int = PREFILL_TOKENS,
        kv_cache: CacheName | None = None,
    ) -> None:
        configs = [sampling] * len(prompts) if isinstance(sampling, SamplingConfig) else sampling
        if len(configs) != len(prompts):
            raise RequestError(
                f"generate: {len(configs)} sampling configs were given for {len(prompts)} prompts; "
                "give one for all, or one a prompt."
            )
        self.model = model
        self._prompts = [[int(token) for token in prompt] for prompt in prompts]
        self._limits = [
            limit_of(
                prompt,
                max_tokens,
                model.config.context,
                model.config.vocab,
                name="the prompt" if len(prompts) == 1 else f"prompt {row}",
            )
            for row, prompt in enumerate(self._prompts)
        ]
        self._stop_ids = frozenset(stop_ids)
        self._prefill_tokens, self._kv_cache = prefill_tokens, kv_cache
        self._configs = list(configs)
        self._generators = [config.generator() for config in configs]
        self._rows = list(range(len(prompts)))  # prompt of each row of the cache
        self._written = [0] * len(prompts)
        self._ended: set[int] = set()
        self._reader: Rows | None = None
        self._next: list[int] = []  # the token each row reads next
        self._seen = self._seen_tokens()

    @property
    def is_running(self) -> bool:
        """Whether any row may still write."""
        return len(self._ended) < len(self._prompts)

    def end(self, row: int) -> None:
        """End a row before its time; it leaves the batch at the next step."""
        self._ended.add(row)

    def step(self) -> list[NewToken]:
        """Read the last tokens (at first: the prompts) and draw the next one of every live row."""
        if self._reader is None:
            self._reader = rows_of(self.model, self._limits, kv_cache=self._kv_cache)
            logits = self._reader.read_prompts(self._prompts, tokens_at_once=self._prefill_tokens)
        else:
            self._drop_ended(self._reader)
            logits = self._reader.read_next(self._next)
        configs = [self._configs[row] for row in self._rows]
        generators = [self._generators[row] for row in self._rows]
        self._next = sample(logits, configs, generators, self._seen)
        if self._seen is not None:
            self._seen[np.arange(len(self._next)), self._next] = True
        return [
            self._record(row, token)
            for row, token in zip(self._rows, self._next, strict=True)
            if row not in self._ended
        ]

    def _record(self, row: int, token: int) -> NewToken:
        self._written[row] += 1
        reason = None
        if token in self._stop_ids:
            reason = "stop"
        elif self._written[row] == self._limits[row]:
            reason = "length"
        if reason is not None:
            self._ended.add(row)
        return NewToken(row=row, id=token, finish_reason=reason)

    def _drop_ended(self, reader: Rows) -> None:
        keep = [place for place, row in enumerate(self._rows) if row not in self._ended]
        if len(keep) == len(self._rows):
            return
        self._rows = [self._rows[place] for place in keep]
        self._next = [self._next[place] for place in keep]
        reader.keep(keep)
        if self._seen is not None:
            self._seen = self._seen[keep]

    def _seen_tokens(self) -> "NDArray[np.bool_] | None":
        if all(config.repetition_penalty is None for config in self._configs):
            return None
        seen = np.zeros((len(self._prompts), self.model.config.vocab), dtype=np.bool_)
        for row, prompt in enumerate(self._prompts):
            seen[row, prompt] = True
        return seen


def limit_of(
    prompt: Sequence[int], max_tokens: int | None, context: int, vocab: int, *, name: str
) -> int:
    """Return how many tokens may follow the prompt, or say why it cannot be continued."""
    where, count = f"generate: {name}", len(prompt)
    if count == 0:
        raise RequestError(
            f"{where} has no tokens; at least one is expected. Begin with the BOS token."
        )
    if count >= context:
        raise ContextError(
            f"{where} has {count} tokens; the model's context is {context}, and the answer "
            "needs room too. Shorten the prompt or load a model with a longer context."
        )
    if min(prompt) < 0 or max(prompt) >= vocab:
        wrong = next(token for token in prompt if not 0 <= token < vocab)
        raise RequestError(
            f"{where} holds the id {wrong}; the model's vocabulary has {vocab} ids. "
            "Use the tokenizer that belongs to the weights."
        )
    if max_tokens is not None and (not isinstance(max_tokens, int) or max_tokens < 1):
        raise RequestError(
            f"generate: max_tokens={max_tokens!r} was given; a whole number, at least 1, is "
            "expected."
        )
    if max_tokens is not None and count + max_tokens > context:
        raise ContextError(
            f"{where} has {count} tokens and max_tokens={max_tokens} was given, "
            f"{count + max_tokens} together; the model's context is {context}. "
            f"Ask for at most {context - count} tokens or shorten the prompt."
        )
    return context - count if max_tokens is None else max_tokens
