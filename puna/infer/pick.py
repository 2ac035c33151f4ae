"""From one row of logits to one token, under everything that its request asks for.

Order: repetition penalty, presence and frequency penalties, bias, what may not come yet, the
constraint, then temperature and filters (`puna.infer.sampling`). A row is picked by itself, so its
token cannot depend on the batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from puna.errors import StateError
from puna.infer.constraints import Matcher
from puna.infer.draw import draw_one
from puna.infer.filters import most_likely, penalize
from puna.infer.request import Request, TokenLogprob


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """A drawn token."""

    id: int
    logprob: TokenLogprob | None  # where the request asks for it


class Picker:
    """What one sample remembers between its tokens."""

    def __init__(
        self,
        request: Request,
        *,
        index: int,
        vocab: int,
        stop_ids: frozenset[int],
        matcher: Matcher | None,
        device: torch.device,
    ) -> None:
        self.config, self.matcher = request.sampling, matcher
        self._uniforms = self.config.generator(index)
        self._request, self._written = request, 0
        self._top = request.logprobs
        if self._top is None and request.samples > request.n:
            self._top = 0
        self._stop_ids = sorted(stop_ids)
        bias = request.logit_bias
        self._bias: tuple[Tensor, Tensor] | None = None
        if bias:
            self._bias = torch.tensor([*bias], device=device), torch.tensor([*bias.values()])
        self._seen: Tensor | None = None
        if self.config.repetition_penalty is not None:
            self._seen = torch.zeros(vocab, dtype=torch.bool, device=device)
            self._seen[list(request.ids)] = True
        self._counts: Tensor | None = None
        if request.presence_penalty or request.frequency_penalty:
            self._counts = torch.zeros(vocab, device=device)

    def pick(self, logits: Tensor) -> Picked:
        """Draw the next token from its logits, [V].

        Raises:
            StateError: the logits are not numbers.
            RequestError: the constraint cannot go on.
        """
        scores = self._adjusted(logits)
        is_greedy = self.config.temperature == 0
        token = _first_most_likely(scores) if is_greedy else self._drawn(scores)
        if not bool(scores[token].isfinite()):
            raise StateError(
                "sampling: the model's logits are not numbers; finite logits are expected. Check "
                "the weights with `puna inspect`, or load them with dtype='float32'."
            )
        self._take(token)
        told = None if self._top is None else logprob_of(logits, token, self._top)
        return Picked(id=token, logprob=told)

    def _drawn(self, scores: Tensor) -> int:
        """Draw among the tokens that the filters leave, by one uniform number."""
        return draw_one(scores, self.config, self._uniforms.next())

    def uniforms_ahead(self, count: int) -> list[float]:
        """Return the random numbers that the next draws will take, without taking them."""
        if self.config.temperature == 0:
            return [0.0] * count
        return self._uniforms.ahead(count)

    def guess(self, logits: Tensor, uniform: float) -> int:
        """Return what would be drawn with this number, from the logits [V] of another model."""
        is_greedy = self.config.temperature == 0
        return _first_most_likely(logits) if is_greedy else draw_one(logits, self.config, uniform)

    def _adjusted(self, logits: Tensor) -> Tensor:
        request = self._request
        scores = logits
        if self._seen is not None:
            assert self.config.repetition_penalty is not None
            scores = penalize(scores[None], self._seen[None], self.config.repetition_penalty)[0]
        if self._counts is not None:
            # Source: OpenAI's API reference, frequency and presence penalties.
            scores = scores - request.frequency_penalty * self._counts
            scores -= request.presence_penalty * (self._counts > 0)
        if self._bias is not None:
            ids, values = self._bias
            scores = scores.index_add(0, ids, values.to(scores))
        if self._written < request.min_tokens and self._stop_ids:
            scores = scores.clone()
            scores[self._stop_ids] = -torch.inf
        if self.matcher is not None:
            allowed = self.matcher.allowed().to(scores.device)
            scores = scores.masked_fill(~allowed, -torch.inf)
        return scores

    def _take(self, token: int) -> None:
        self._written += 1
        if self._seen is not None:
            self._seen[token] = True
        if self._counts is not None:
            self._counts[token] += 1
        if self.matcher is not None:
            self.matcher.advance(token)


def _first_most_likely(scores: Tensor) -> int:
    if scores.device.type == "cpu":  # numpy takes the first of equals, and NaN for the greatest
        return int(scores.numpy().argmax())
    return int(most_likely(scores[None])[0])


def logprob_of(logits: Tensor, token: int, top: int) -> TokenLogprob:
    """Return the log-probability of a token and of the likeliest ones, from its logits [V]."""
    logprobs = logits.log_softmax(-1)
    best: tuple[tuple[int, float], ...] = ()
    if top:
        values, ids = logprobs.topk(min(top, len(logprobs)))
        best = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return TokenLogprob(id=token, logprob=float(logprobs[token]), top=best)
