"""What an engine counts: work done, work that waits, and how soon a place may be free.

`puna.serve` shows these numbers at `/metrics`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from puna.infer.request import Request
from puna.infer.runner import Part
from puna.infer.scheduler import Scheduler

SMOOTHING = 0.1  # share of the newest request in the average duration
LONGEST_WAIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """The state of an engine; counters run from its start."""

    waiting: int  # sequences
    running: int
    pages: int
    free_pages: int
    kept_pages: int  # that can be found by their content
    steps: int
    tokens_read: int  # prompts and written tokens, drafts included
    prompt_tokens: int
    cached_tokens: int  # of the prompts
    written_tokens: int
    drafted_tokens: int
    accepted_tokens: int  # drafts that were right
    preemptions: int
    forgotten_pages: int
    requests: int
    refused: int
    ended: dict[str, int]  # requests by finish reason of their last sample


class Measures:
    """Counters that the engine advances."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._duration_s: float | None = None  # of a request, on average
        self._running = 1
        self.steps = self.tokens_read = self.requests = self.refused = 0
        self.prompt_tokens = self.cached_tokens = self.written_tokens = 0
        self.drafted_tokens = self.accepted_tokens = 0
        self.ended: dict[str, int] = {}

    def note_request(self, request: Request) -> None:
        """Count a request that was taken in."""
        self.requests += 1
        self.prompt_tokens += len(request.ids)

    def note_step(self, parts: Sequence[Part]) -> None:
        """Count a step."""
        self.steps += 1
        self.tokens_read += sum(len(part.ids) for part in parts)
        self._running = max(1, len(parts))

    def note_end(self, reason: str, duration_s: float) -> None:
        """Count a request that ended."""
        self.ended[reason] = self.ended.get(reason, 0) + 1
        old = duration_s if self._duration_s is None else self._duration_s
        self._duration_s = old + SMOOTHING * (duration_s - old)

    def retry_after_s(self) -> float:
        """Guess when a place in the queue is free: one request ends every duration / running."""
        duration_s = 1.0 if self._duration_s is None else self._duration_s
        return float(min(max(1, math.ceil(duration_s / self._running)), LONGEST_WAIT_S))

    def stats(self, scheduler: Scheduler, *, arrived: int) -> Stats:
        """Return all numbers."""
        pool = scheduler.pool
        return Stats(
            waiting=len(scheduler.waiting) + arrived,
            running=len(scheduler.running),
            pages=pool.pages,
            free_pages=pool.free,
            kept_pages=pool.kept,
            steps=self.steps,
            tokens_read=self.tokens_read,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            written_tokens=self.written_tokens,
            drafted_tokens=self.drafted_tokens,
            accepted_tokens=self.accepted_tokens,
            preemptions=scheduler.preemptions,
            forgotten_pages=pool.forgotten,
            requests=self.requests,
            refused=self.refused,
            ended=dict(self.ended),
        )
