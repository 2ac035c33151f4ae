"""What rounding cost: perplexity of both models on the same text, and how far their answers part.

`puna quantize` ends with these numbers. The divergence KL(original || rounded) looks at the whole
distribution of the next token, so it sees what perplexity's one token may hide.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from puna.model.llama import Llama

_TOKENS_AT_ONCE = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two models on one text, per predicted token."""

    tokens: int  # predicted
    original: float  # perplexity
    rounded: float  # perplexity
    divergence: float  # mean KL(original || rounded), nats
    agreement: float  # share of positions where both find the same token likeliest


@torch.no_grad()
def compare(original: Llama, rounded: Llama, ids: Int[Tensor, "N T"]) -> Comparison:
    """Let both models predict every token of each row from those before it."""
    loss_original = loss_rounded = divergence = 0.0
    agreeing = tokens = 0
    for rows in _chunks(ids):
        targets = rows[:, 1:, None]
        sure = original(rows).log_softmax(-1)[:, :-1]
        trial = rounded(rows).log_softmax(-1)[:, :-1]
        loss_original -= float(sure.gather(-1, targets).sum())
        loss_rounded -= float(trial.gather(-1, targets).sum())
        divergence += float((sure.exp() * (sure - trial)).sum())
        agreeing += int((sure.argmax(-1) == trial.argmax(-1)).sum())
        tokens += targets.numel()
    return Comparison(
        tokens=tokens,
        original=math.exp(loss_original / tokens),
        rounded=math.exp(min(700.0, loss_rounded / tokens)),
        divergence=divergence / tokens,
        agreement=agreeing / tokens,
    )


def _chunks(ids: Tensor) -> Iterator[Tensor]:
    yield from torch.split(ids, max(1, _TOKENS_AT_ONCE // ids.shape[1]))
