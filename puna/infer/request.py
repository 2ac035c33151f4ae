"""What an engine is asked and what it answers: requests, events, and what a request cost.

Plain data between `puna.infer.engine` and whoever speaks to people (`puna.llm`, `puna.serve`).
Everything is ids: text is the business of those who have the prompt's renderer.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from puna.errors import PunaError, RequestError
from puna.infer.constraints import Constraint
from puna.infer.sampling import SamplingConfig

MOST_LOGPROBS = 20  # alternatives a token; OpenAI's limit


class BusyError(PunaError, RuntimeError):
    """The queue is full, or the engine is closing; `retry_after_s` says when to ask again."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One prompt and how it is to be continued.

    Sample `i` of a request with seed `s` is what a request with seed `s + i` alone would draw:
    neither the other samples nor the other requests change it.
    """

    ids: Sequence[int]
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    max_tokens: int | None = None  # None allows what fits; 0 reads the prompt and writes nothing
    min_tokens: int = 0  # stop ids may not be drawn before
    stop: Sequence[str] = ()  # texts that end a sample
    stop_ids: Sequence[int] | frozenset[int] = ()  # in addition to the engine's
    ignore_eos: bool = False  # write on past the engine's stop ids
    presence_penalty: float = 0.0  # taken off the score of what was written; 0 changes nothing
    frequency_penalty: float = 0.0  # the same, once for every time it was written
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # added to the scores of ids
    constraint: Constraint | None = None  # what the text must look like
    n: int = 1  # samples that share the prompt
    best_of: int | None = None  # draw so many and answer the n likeliest
    logprobs: int | None = None  # alternatives to tell with each token; 0 tells its own alone
    prompt_logprobs: int | None = None  # the same for the tokens of the prompt
    priority: int = 0  # higher runs first
    user: str = ""  # users share the machine evenly
    deadline_s: float | None = None  # seconds after submission
    speculates: bool = True  # drafts never change what is written, only how fast
    salt: str = ""  # prefixes are shared between requests of the same salt only

    def __post_init__(self) -> None:
        _require("n", self.n, "1 or more", self.n >= 1)
        most = self.samples
        _require("best_of", self.best_of, "at least n", most >= self.n)
        for name in ("presence_penalty", "frequency_penalty"):
            value = getattr(self, name)
            _require(name, value, "a finite number", math.isfinite(value))
        for name in ("logprobs", "prompt_logprobs"):
            value = getattr(self, name)
            is_right = value is None or 0 <= value <= MOST_LOGPROBS
            _require(name, value, f"from 0 to {MOST_LOGPROBS}", is_right)
        _require("min_tokens", self.min_tokens, "0 or more", self.min_tokens >= 0)
        deadline = self.deadline_s
        _require("deadline_s", deadline, "above 0", deadline is None or deadline > 0)
        bias = self.logit_bias
        _require("logit_bias", dict(bias), "finite", all(map(math.isfinite, bias.values())))

    @property
    def samples(self) -> int:
        """How many samples are drawn."""
        return self.n if self.best_of is None else self.best_of


def _require(name: str, value: object, expected: str, holds: bool) -> None:
    if not holds:
        raise RequestError(f"request: {name}={value!r} was given; {expected} is expected.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """How likely a token was to the model itself, before temperature, filters and penalties."""

    id: int
    logprob: float  # nats
    top: tuple[tuple[int, float], ...] = ()  # the likeliest ids, as many as were asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a request cost so far."""

    prompt_tokens: int
    cached_tokens: int  # of the prompt, found in pages of earlier requests
    completion_tokens: int  # of all samples that were drawn
    queued_s: float  # from submission to the first step
    first_token_s: float | None  # from submission
    total_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """New tokens of one sample; the last event of a sample says why it ended."""

    handle: int
    index: int = 0  # of the sample
    ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()  # one an id, where they were asked for
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None  # with the first event
    finish_reason: str | None = None  # "stop", "length", "cancelled", "deadline" or "error"
    stopped_by: str | int | None = None  # the stop string or stop id that was found
    error: str | None = None
    spent: Spent | None = None  # with the last event of a request
