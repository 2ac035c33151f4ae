import asyncio
import threading

import pytest

from puna.errors import ContextError
from puna.infer.driver import Driver
from puna.infer.engine import BusyError, Engine, Event, Request
from tests.infer.engines import Hang, expected, tiny_engine
from tests.infer.tiny import GREEDY, prompts_of, tiny_model

MODEL = tiny_model(context=128)


async def read(driver: Driver, request: Request) -> list[int]:
    return [token async for event in driver.stream(request) for token in event.ids]


def test_coroutines_read_their_own_streams() -> None:
    prompts = prompts_of([4, 30, 11, 7])

    async def ask(driver: Driver) -> list[list[int]]:
        requests = [Request(ids=ids, sampling=GREEDY, max_tokens=20) for ids in prompts]
        return await asyncio.gather(*(read(driver, request) for request in requests))

    with Driver(tiny_engine(MODEL)) as driver:
        done = asyncio.run(ask(driver))
    assert done == [expected(MODEL, ids, 20) for ids in prompts]


def test_threads_read_their_own_streams() -> None:
    prompts, done = prompts_of([4, 30, 11]), {}
    with Driver(tiny_engine(MODEL)) as driver:

        def work(place: int) -> None:
            request = Request(ids=prompts[place], sampling=GREEDY, max_tokens=20)
            done[place] = [token for event in driver.submit(request) for token in event.ids]

        workers = [threading.Thread(target=work, args=(place,)) for place in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert done == {place: expected(MODEL, prompts[place], 20) for place in range(3)}


def test_a_reader_who_leaves_gives_the_pages_back() -> None:
    engine = tiny_engine(MODEL)

    async def leave(driver: Driver) -> None:
        async def first() -> None:
            async for _ in driver.stream(Request(ids=[1, 2], sampling=GREEDY, max_tokens=100)):
                await asyncio.sleep(3600)

        task = asyncio.create_task(first())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with Driver(engine) as driver:
        asyncio.run(leave(driver))
        assert driver.drain(timeout_s=30)
    assert engine.pages.free == engine.pages.pages
    assert sum(engine.stats().ended.values()) == 1


def test_a_draining_driver_finishes_and_refuses() -> None:
    with Driver(tiny_engine(MODEL)) as driver:
        stream = driver.submit(Request(ids=[1, 2, 3], sampling=GREEDY, max_tokens=60))
        assert driver.drain(timeout_s=60)
        with pytest.raises(BusyError, match="is closing"):
            driver.submit(Request(ids=[1], sampling=GREEDY))
        assert [token for event in stream for token in event.ids] == expected(MODEL, [1, 2, 3], 60)


def test_closing_ends_every_stream() -> None:
    driver = Driver(tiny_engine(MODEL))
    request = Request(ids=[1, 2, 3], sampling=GREEDY, max_tokens=120)
    streams = [driver.submit(request) for _ in range(8)]
    driver.close()
    reasons = {list(stream)[-1].finish_reason for stream in streams}
    assert reasons <= {"cancelled", "length"}


def test_an_error_of_a_request_is_raised_where_it_is_made() -> None:
    with Driver(tiny_engine(MODEL)) as driver, pytest.raises(ContextError, match="context is 128"):
        driver.submit(Request(ids=[1] * 200, sampling=GREEDY))


def test_a_failing_step_ends_the_requests_and_the_next_one_is_served(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = tiny_engine(MODEL)
    step, failures = Engine.step, [RuntimeError("the disk of the moon is full")]

    def failing(self: Engine) -> list[Event]:
        if failures:
            self._settle()
            raise failures.pop()
        return step(self)

    monkeypatch.setattr(Engine, "step", failing)
    with Driver(engine) as driver:
        *_, last = driver.submit(Request(ids=[1, 2], sampling=GREEDY, max_tokens=3))
        assert (last.finish_reason, last.error) == ("error", "the disk of the moon is full")
        *_, last = driver.submit(Request(ids=[1, 2], sampling=GREEDY, max_tokens=3))
        assert last.finish_reason == "length"
    assert "a step failed" in caplog.text


def test_a_driver_says_when_a_step_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    hang = Hang(monkeypatch)
    with Driver(tiny_engine(MODEL)) as driver:
        assert driver.trouble(hang_s=0.0) is None  # there is no step: nothing hangs
        stream = driver.submit(Request(ids=[1, 2], sampling=GREEDY, max_tokens=2))
        assert hang.is_in_step.wait(30)
        assert driver.trouble(hang_s=60.0) is None
        told = driver.trouble(hang_s=0.0)
        hang.may_go_on.set()
        assert [*stream][-1].finish_reason == "length"
    assert told == "a step has taken 0 s already"


def test_a_step_that_hangs_does_not_keep_the_driver_from_closing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hang = Hang(monkeypatch)
    monkeypatch.setattr("puna.infer.driver.CLOSING_WAIT_S", 0.01)
    driver = Driver(tiny_engine(MODEL))
    stream = driver.submit(Request(ids=[1, 2], sampling=GREEDY, max_tokens=2))
    assert hang.is_in_step.wait(30)
    driver.close()
    assert "a step hangs" in caplog.text
    hang.may_go_on.set()
    assert [*stream][-1].finish_reason == "cancelled"


def test_a_driver_whose_thread_ends_lets_nobody_wait(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def ending(self: Engine) -> list[Event]:
        raise SystemExit("out of this world")

    engine = tiny_engine(MODEL)
    monkeypatch.setattr(Engine, "step", ending)
    driver = Driver(engine)
    *_, last = driver.submit(Request(ids=[1, 2], sampling=GREEDY, max_tokens=3))
    assert (last.finish_reason, last.error) == ("error", "out of this world")
    driver.close()
    assert driver.trouble(hang_s=60.0) == "its thread has ended"
    assert "its thread ends" in caplog.text
    assert engine.pages.free == engine.pages.pages
    with pytest.raises(BusyError, match="is closing"):
        driver.submit(Request(ids=[1], sampling=GREEDY))


def test_a_loop_that_was_closed_does_not_hold_pages() -> None:
    engine = tiny_engine(MODEL, cache_tokens=1024)
    with Driver(engine) as driver:

        async def begin() -> None:
            driver.stream(Request(ids=[1, 2], sampling=GREEDY, max_tokens=120))

        asyncio.run(begin())
        assert driver.drain(timeout_s=30)
    assert engine.pages.free == engine.pages.pages
