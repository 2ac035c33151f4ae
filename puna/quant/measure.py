"""What rounding cost: perplexity of both models on the same text, and how far their answers part.

`puna quantize` ends with these numbers. The divergence KL(original || rounded) looks at the whole
distribution of the next token, so it sees what perplexity's one token may hide.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from puna.model.llama import Llama

_TOKENS_AT_ONCE = 2048
_SCORES_AT_ONCE = 1 << 23  # of one model: 32 MiB, also where a token has 128,256 of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two models on one text, per predicted token."""

    tokens: int  # predicted
    original: float  # perplexity
    rounded: float  # perplexity
    divergence: float  # mean KL(original || rounded), nats
    agreement: float  # share of positions where both find the same token likeliest


@torch.no_grad()
def compare(
    original: Llama,
    rounded: Llama,
    ids: Int[Tensor, "N T"],
    marked: Bool[Tensor, "N T"] | None = None,
) -> Comparison:
    """Let both models predict the tokens of each row from those before them.

    Scores exist for a few tokens at a time, so that a large vocabulary costs no memory.

    Args:
        marked: tokens that count, such as those of answers; None counts all but the first.
    """
    loss_original = loss_rounded = divergence = 0.0
    agreeing = tokens = 0
    for states, others, targets in _states(original, rounded, ids, marked):
        sure = original.logits(states).log_softmax(-1)
        trial = rounded.logits(others).log_softmax(-1)
        loss_original -= float(sure.gather(-1, targets).sum())
        loss_rounded -= float(trial.gather(-1, targets).sum())
        agreeing += int((sure.argmax(-1) == trial.argmax(-1)).sum())
        divergence += float((sure.exp() * sure.sub(trial)).sum())
        tokens += targets.numel()
    return Comparison(
        tokens=tokens,
        original=math.exp(loss_original / tokens),
        rounded=math.exp(min(700.0, loss_rounded / tokens)),
        divergence=divergence / tokens,
        agreement=agreeing / tokens,
    )


def _states(
    original: Llama, rounded: Llama, ids: Int[Tensor, "N T"], marked: Tensor | None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield what the heads of both read, [n, D], and the tokens that follow, [n, 1], in pieces."""
    if marked is None:
        marked = torch.ones_like(ids, dtype=torch.bool)
    piece = max(1, _SCORES_AT_ONCE // original.config.vocab)
    at_once = max(1, _TOKENS_AT_ONCE // ids.shape[1])
    for rows, chosen in zip(torch.split(ids, at_once), torch.split(marked, at_once), strict=True):
        counts = chosen[:, 1:]
        read = (model.hidden(rows)[:, :-1][counts] for model in (original, rounded))
        targets = rows[:, 1:][counts][:, None]
        yield from zip(*(torch.split(part, piece) for part in (*read, targets)), strict=True)
