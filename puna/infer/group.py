"""The samples of one request: their events go out as they come, or the best at the end."""

import dataclasses
from collections.abc import Sequence

from torch import Tensor

from puna.infer.pick import logprob_of
from puna.infer.request import Event, Request, Spent, TokenLogprob
from puna.infer.sequence import TokenSequence


class Group:
    """One request in service."""

    def __init__(self, *, handle: int, request: Request, submitted_s: float) -> None:
        self.handle, self.request, self.submitted_s = handle, request, submitted_s
        self.running: list[TokenSequence] = []  # that the scheduler knows
        self.prompt_logprobs: list[TokenLogprob | None] = [None]  # nothing precedes the first token
        self.cached_tokens = 0
        self._begun_s: float | None = None
        self._first_token_s: float | None = None
        self._written = 0
        self._told_prompt = request.prompt_logprobs is None
        self._held: dict[int, Event] = {}  # of each sample, where the best are wanted
        self._mean: dict[int, float] = {}

    def is_late(self, now_s: float) -> bool:
        """Whether its deadline has passed."""
        deadline_s = self.request.deadline_s
        return deadline_s is not None and now_s - self.submitted_s > deadline_s

    def begin(self, now_s: float, *, cached_tokens: int) -> None:
        """Note its first step, which found so much of the prompt in the cache."""
        if self._begun_s is None:
            self._begun_s, self.cached_tokens = now_s, cached_tokens

    @property
    def has_begun(self) -> bool:
        """Whether a step has read any of it."""
        return self._begun_s is not None

    def wants_prompt(self, sequence: TokenSequence) -> bool:
        """Whether the log-probabilities of the prompt are asked for and this part lacks them."""
        return self.request.prompt_logprobs is not None and not sequence.written

    def read_prompt(self, ids: Sequence[int], held: int, logits: Tensor) -> None:
        """Take the logits after the tokens from `held` on; a second reading changes nothing."""
        top = self.request.prompt_logprobs
        assert top is not None
        for place, row in enumerate(logits, start=held + 1):
            if place == len(self.prompt_logprobs) < len(ids):
                self.prompt_logprobs.append(logprob_of(row, ids[place], top))

    def tell(self, sequence: TokenSequence, event: Event, now_s: float) -> list[Event]:
        """Return the events that go out because of this one; an ended sample leaves."""
        self._written += len(event.ids)
        if event.ids and self._first_token_s is None:
            self._first_token_s = now_s - self.submitted_s
        if not self._told_prompt:
            self._told_prompt = True
            event = dataclasses.replace(event, prompt_logprobs=tuple(self.prompt_logprobs))
        if event.finish_reason is not None:
            self.running.remove(sequence)
        if self.request.samples > self.request.n:
            return self._hold(sequence, event, now_s)
        events = [event]
        if event.finish_reason is not None:  # samples that were never begun end with it
            ahead = range(sequence.index + 1, sequence.index + 1 + sequence.samples_to_come)
            reason, error = event.finish_reason, event.error
            events += [
                Event(handle=self.handle, index=index, finish_reason=reason, error=error)
                for index in ahead
            ]
        if not self.running:
            events[-1] = dataclasses.replace(events[-1], spent=self._spent(now_s))
        return events

    def _hold(self, sequence: TokenSequence, event: Event, now_s: float) -> list[Event]:
        """Keep the event until every sample has ended; then tell the likeliest ones."""
        so_far = self._held.get(sequence.index)
        if so_far is not None:
            event = dataclasses.replace(
                event,
                ids=so_far.ids + event.ids,
                logprobs=so_far.logprobs + event.logprobs,
                prompt_logprobs=so_far.prompt_logprobs,
            )
        self._held[sequence.index] = event
        self._mean[sequence.index] = sequence.total_logprob / max(1, sequence.written)
        if self.running:
            return []
        best = sorted(self._held, key=lambda index: (-self._mean[index], index))[: self.request.n]
        events = [
            dataclasses.replace(self._held[index], index=place) for place, index in enumerate(best)
        ]
        prompt = self._held[0].prompt_logprobs
        events = [dataclasses.replace(event, prompt_logprobs=None) for event in events]
        events[0] = dataclasses.replace(events[0], prompt_logprobs=prompt)
        events[-1] = dataclasses.replace(events[-1], spent=self._spent(now_s))
        return events

    def _spent(self, now_s: float) -> Spent:
        begun_s = now_s if self._begun_s is None else self._begun_s
        return Spent(
            prompt_tokens=len(self.request.ids),
            cached_tokens=self.cached_tokens,
            completion_tokens=self._written,
            queued_s=begun_s - self.submitted_s,
            first_token_s=self._first_token_s,
            total_s=now_s - self.submitted_s,
        )
