"""Steps that overlap, with a model of one process that answers late."""

from collections.abc import Callable, Sequence

import pytest
from torch import Tensor

from puna.infer.engine import Engine, EngineConfig, Request
from puna.infer.paged import TorchPages
from puna.infer.runner import Part
from tests.infer.engines import collect, expected, run, written_log
from tests.infer.tiny import GREEDY, prompts_of, tiny_model


class LatePages(TorchPages):
    """Reads at once and tells later, as stages elsewhere do."""

    lanes = 2

    def __init__(self, pages: int) -> None:
        super().__init__(tiny_model(context=128), pages, page_tokens=8, dtype=None)
        self.under_way: list[frozenset[int]] = []  # last pages of the parts of each read
        self.most = 0

    def begin(self, parts: Sequence[Part]) -> Callable[[], Tensor]:
        logits = self.read(parts)
        own = frozenset(part.pages[-1] for part in parts)
        assert not any(own & other for other in self.under_way), "one sequence is read twice"
        self.under_way.append(own)
        self.most = max(self.most, len(self.under_way))

        def wait() -> Tensor:
            self.under_way.pop(0)
            return logits

        return wait


def late_engine(pages: int = 64, **limits: int) -> tuple[Engine, LatePages]:
    chosen = {"page_tokens": 8, "most_running": 6, "tokens_a_step": 32}
    late = LatePages(pages)
    config = EngineConfig(**(chosen | limits))  # type: ignore[arg-type]
    return Engine(tiny_model(context=128), None, config, paged=late), late


@pytest.mark.parametrize("draft_tokens", [0, 3])
def test_overlapping_steps_write_what_the_simple_loop_writes(draft_tokens: int) -> None:
    engine, late = late_engine(draft_tokens=draft_tokens)
    prompts = prompts_of([3, 41, 1, 17, 25])
    done = run(engine, *(Request(ids=p, sampling=GREEDY, max_tokens=12) for p in prompts))
    model = tiny_model(context=128)
    assert [samples[0].ids for samples in done] == [expected(model, p, 12) for p in prompts]
    assert late.most == 2
    assert engine.pages.free == 64


def test_what_is_preempted_while_it_is_read_is_read_again() -> None:
    engine, _ = late_engine(pages=9)
    prompts = prompts_of([20, 22, 18, 21])
    done = run(engine, *(Request(ids=p, sampling=GREEDY, max_tokens=30) for p in prompts))
    model = tiny_model(context=128)
    assert [samples[0].ids for samples in done] == [expected(model, p, 30) for p in prompts]
    assert engine.stats().preemptions > 0
    assert engine.pages.free == 9


def test_a_request_cancelled_while_it_is_read_returns_its_pages_at_once() -> None:
    engine, late = late_engine()
    prompts, log = prompts_of([9, 12]), written_log()
    first, second = (engine.submit(Request(ids=p, sampling=GREEDY, max_tokens=10)) for p in prompts)
    engine.step()
    assert late.under_way
    engine.cancel(first)
    assert engine.pages.free == 64
    for _ in range(40):
        collect(engine.step(), log)
    assert not engine.has_work and not late.under_way
    assert log[first][0].ids == [] and log[first][0].finish_reason == "cancelled"
    assert log[second][0].ids == expected(tiny_model(context=128), prompts[1], 10)


def test_a_more_urgent_request_does_not_wait_for_a_free_lane() -> None:
    engine, _ = late_engine(most_running=2)
    slow = [Request(ids=p, sampling=GREEDY, max_tokens=60) for p in prompts_of([4, 5])]
    for request in slow:
        engine.submit(request)
    for _ in range(6):
        engine.step()
    urgent = engine.submit(Request(ids=[1, 2, 3], sampling=GREEDY, max_tokens=2, priority=1))
    log = written_log()
    for _ in range(12):
        collect(engine.step(), log)
    assert log[urgent][0].finish_reason == "length"
