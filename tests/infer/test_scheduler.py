"""Who runs when: priority, fairness, bounded steps, and prompts read beside written tokens."""

from puna.infer.engine import Engine, Request
from tests.infer.engines import collect, run, tiny_engine, written_log
from tests.infer.tiny import GREEDY, prompts_of, tiny_model

MODEL = tiny_model(context=128)


def order_of_ends(engine: Engine, requests: dict[str, Request]) -> list[str]:
    names = {engine.submit(request): name for name, request in requests.items()}
    ended = []
    while engine.has_work:
        ended += [names[event.handle] for event in engine.step() if event.finish_reason]
    return ended


def test_a_long_prompt_does_not_hold_up_those_who_write() -> None:
    engine = tiny_engine(MODEL, tokens_a_step=12)
    writer = engine.submit(Request(ids=[1, 2, 3], sampling=GREEDY, max_tokens=40))
    engine.step()
    engine.submit(Request(ids=prompts_of([90])[0], sampling=GREEDY, max_tokens=1))
    for _ in range(9):  # 90 tokens, 11 beside each written one
        before = engine.stats().tokens_read
        log = written_log()
        collect(engine.step(), log)
        assert len(log[writer][0].ids) == 1
        assert engine.stats().tokens_read - before <= 12


def test_higher_priority_goes_first_and_takes_the_place_of_lower() -> None:
    engine = tiny_engine(MODEL, most_running=2)
    low = {f"low {i}": Request(ids=[i], sampling=GREEDY, max_tokens=10) for i in range(3)}
    high = {"high": Request(ids=[50], sampling=GREEDY, max_tokens=10, priority=1)}
    assert order_of_ends(engine, low | high) == ["high", "low 0", "low 1", "low 2"]
    handle = engine.submit(low["low 0"])
    engine.submit(low["low 1"])
    engine.step()
    engine.submit(high["high"])
    engine.step()
    assert engine.stats().preemptions == 1
    assert handle in {sequence.handle for sequence in engine._scheduler.running}


def test_a_user_with_many_requests_does_not_push_others_back() -> None:
    engine = tiny_engine(MODEL, most_running=1)
    many = {
        f"many {i}": Request(ids=[i, 1], sampling=GREEDY, max_tokens=8, user="many")
        for i in range(5)
    }
    one = {"one": Request(ids=[9, 9], sampling=GREEDY, max_tokens=8, user="one")}
    assert order_of_ends(engine, many | one).index("one") == 1


def test_a_user_who_comes_late_has_no_credit_from_before() -> None:
    engine = tiny_engine(MODEL, most_running=1)
    request = Request(ids=[1, 1], sampling=GREEDY, max_tokens=8, user="early")
    run(engine, request, request, request)
    early = {f"early {i}": request for i in range(3)}
    late = {
        f"late {i}": Request(ids=[2, 2], sampling=GREEDY, max_tokens=8, user="late")
        for i in range(3)
    }
    ended = order_of_ends(engine, early | late)
    assert {name.split()[0] for name in ended[:2]} == {"early", "late"}


def test_a_thousand_cancels_leave_no_page_behind() -> None:
    engine = tiny_engine(MODEL, cache_tokens=256)
    handles: list[int] = []
    for number in range(1000):
        prompt = [number % 97, number % 5, 3] * (1 + number % 7)
        handles.append(engine.submit(Request(ids=prompt, sampling=GREEDY, n=1 + number % 3)))
        if number % 3:
            engine.step()
        engine.cancel(handles[number - number % 4])
        if number % 11 == 0:
            for handle in handles:
                engine.cancel(handle)
    for handle in handles:
        engine.cancel(handle)
    assert engine.pages.free == engine.pages.pages
    engine.step()
    assert not engine.has_work
    stats = engine.stats()
    assert (stats.waiting, stats.running, stats.ended) == (0, 0, {"cancelled": 1000})
