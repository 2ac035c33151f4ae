"""Small engines, the requests they get, and running them to the end."""

import threading
from collections import defaultdict
from dataclasses import dataclass, field

import pytest

from puna.infer.engine import Engine, EngineConfig, Event, Request
from puna.infer.generate import generate_ids
from puna.infer.request import Spent, TokenLogprob
from puna.model.llama import Llama
from puna.ops import native
from tests.infer.tiny import GREEDY

BACKENDS = [True, False] if native.levels() else [False]  # is_native


@dataclass
class Written:
    """What one sample wrote."""

    ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: str | None = None
    stopped_by: str | int | None = None
    spent: Spent | None = None
    error: str | None = None
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None


def collect(events: list[Event], into: dict[int, dict[int, Written]]) -> None:
    for event in events:
        sample = into[event.handle][event.index]
        assert sample.finish_reason is None, "nothing follows the last event of a sample"
        sample.ids += event.ids
        sample.logprobs += event.logprobs
        sample.finish_reason, sample.stopped_by = event.finish_reason, event.stopped_by
        sample.spent, sample.error = event.spent, event.error
        if event.prompt_logprobs is not None:
            sample.prompt_logprobs = event.prompt_logprobs


def written_log() -> dict[int, dict[int, Written]]:
    return defaultdict(lambda: defaultdict(Written))


def run(engine: Engine, *requests: Request, most_steps: int = 3000) -> list[dict[int, Written]]:
    """Submit requests, step until nothing is left, return the samples of each."""
    handles = [engine.submit(request) for request in requests]
    log = written_log()
    for _ in range(most_steps):
        if not engine.has_work:
            return [log[handle] for handle in handles]
        collect(engine.step(), log)
    raise AssertionError("the engine does not come to an end")


def tiny_engine(model: Llama, *, is_native: bool = BACKENDS[0], **limits: int) -> Engine:
    chosen = {"page_tokens": 8, "most_running": 6, "tokens_a_step": 32, "cache_tokens": 512}
    return Engine(model, None, EngineConfig(is_native=is_native, **(chosen | limits)))  # type: ignore[arg-type]


def expected(model: Llama, prompt: list[int], count: int) -> list[int]:
    """What the simple loop writes."""
    return list(generate_ids(model, [prompt], max_tokens=count, sampling=GREEDY)[0].ids)


class Hang:
    """The next steps of all engines hang until `may_go_on` is set; `is_in_step`: one does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_go_on, self.is_in_step = threading.Event(), threading.Event()
        step = Engine.step

        def hanging(engine: Engine) -> list[Event]:
            self.is_in_step.set()
            self.may_go_on.wait(30)
            return step(engine)

        monkeypatch.setattr(Engine, "step", hanging)
