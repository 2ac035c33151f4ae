import pytest

from puna.errors import ContextError, RequestError
from puna.infer.engine import BusyError, Request
from puna.infer.generate import generate_ids
from puna.infer.sampling import SamplingConfig
from tests.infer.engines import BACKENDS, expected, run, tiny_engine
from tests.infer.tiny import GREEDY, prompts_of, tiny_model

EVERY_BACKEND = pytest.mark.parametrize("is_native", BACKENDS)


@EVERY_BACKEND
def test_every_request_gets_what_the_simple_loop_writes(is_native: bool) -> None:
    model = tiny_model(context=128)
    prompts = prompts_of([3, 41, 1, 17, 8, 25, 30, 16])
    requests = [Request(ids=prompt, sampling=GREEDY, max_tokens=20) for prompt in prompts]
    done = run(tiny_engine(model, is_native=is_native), *requests)
    for prompt, samples in zip(prompts, done, strict=True):
        assert samples[0].ids == expected(model, prompt, 20)
        assert samples[0].finish_reason == "length"


@EVERY_BACKEND
def test_preempted_requests_write_what_they_write_alone(is_native: bool) -> None:
    model = tiny_model(context=128)
    prompts = prompts_of([20, 22, 18, 21, 19])
    requests = [Request(ids=prompt, sampling=GREEDY, max_tokens=40) for prompt in prompts]
    engine = tiny_engine(model, is_native=is_native, cache_tokens=112)
    done = run(engine, *requests)
    assert engine.stats().preemptions > 0
    assert engine.pages.free == engine.pages.pages == 14
    for prompt, samples in zip(prompts, done, strict=True):
        assert samples[0].ids == expected(model, prompt, 40)


@EVERY_BACKEND
def test_a_sampled_request_draws_what_the_simple_loop_draws(is_native: bool) -> None:
    model = tiny_model(context=128)
    prompts = prompts_of([5, 30, 12])
    configs = [
        SamplingConfig(temperature=0.9, top_p=0.8, seed=3),
        SamplingConfig(temperature=1.2, top_k=9, top_p=None, seed=4, repetition_penalty=1.3),
        SamplingConfig(temperature=1.0, min_p=0.1, top_p=None, seed=5),
    ]
    loop = generate_ids(model, prompts, max_tokens=25, sampling=configs)
    done = run(
        tiny_engine(model, is_native=is_native),
        *(
            Request(ids=prompt, sampling=config, max_tokens=25)
            for prompt, config in zip(prompts, configs, strict=True)
        ),
    )
    assert [samples[0].ids for samples in done] == [list(row.ids) for row in loop]


@EVERY_BACKEND
def test_samples_of_one_prompt_share_its_pages(is_native: bool) -> None:
    model = tiny_model(context=128)
    (prompt,) = prompts_of([44])  # five full pages and half of one
    config = SamplingConfig(temperature=1.0, top_p=None, seed=7)
    engine = tiny_engine(model, is_native=is_native, tokens_a_step=64)
    engine.submit(Request(ids=prompt, sampling=config, max_tokens=3, n=4))
    engine.step()
    engine.step()
    assert engine.pages.pages - engine.pages.free == 5 + 4  # the shared ones, and a tail each
    engine = tiny_engine(model, is_native=is_native)
    (samples,) = run(engine, Request(ids=prompt, sampling=config, max_tokens=20, n=4))
    seeds = [SamplingConfig(temperature=1.0, top_p=None, seed=7 + index) for index in range(4)]
    loop = generate_ids(model, [prompt] * 4, max_tokens=20, sampling=seeds)
    assert [samples[index].ids for index in range(4)] == [list(row.ids) for row in loop]
    assert engine.pages.free == engine.pages.pages


@EVERY_BACKEND
def test_a_repeated_prefix_is_read_once(is_native: bool) -> None:
    model = tiny_model(context=128)
    first, second = prompts_of([40, 40])
    engine = tiny_engine(model, is_native=is_native)
    request = Request(ids=first + second, sampling=GREEDY, max_tokens=12)
    (cold,), (warm,), (other,) = (
        run(engine, request),
        run(engine, request),
        run(engine, Request(ids=first + second[:-1] + [0], sampling=GREEDY, max_tokens=12)),
    )
    assert [run_[0].spent.cached_tokens for run_ in (cold, warm, other)] == [0, 72, 72]  # type: ignore[union-attr]
    assert warm[0].ids == cold[0].ids
    assert other[0].ids == expected(model, first + second[:-1] + [0], 12)
    written = Request(ids=first + second + cold[0].ids, sampling=GREEDY, max_tokens=2)
    assert run(engine, written)[0][0].spent.cached_tokens == 88  # type: ignore[union-attr]


def test_salted_requests_share_with_their_own_kind_only() -> None:
    engine = tiny_engine(tiny_model(context=128))
    (prompt,) = prompts_of([30])
    for salt, cached in (("a", 0), ("b", 0), ("a", 24)):
        request = Request(ids=prompt, sampling=GREEDY, max_tokens=1, salt=salt)
        assert run(engine, request)[0][0].spent.cached_tokens == cached  # type: ignore[union-attr]


def test_a_cancelled_request_returns_its_pages() -> None:
    engine = tiny_engine(tiny_model(context=128), cache_tokens=64)
    handle = engine.submit(Request(ids=[1, 2, 3], sampling=GREEDY, max_tokens=50))
    engine.step()
    assert engine.pages.free == 7
    engine.cancel(handle)
    assert engine.pages.free == 8
    (event,) = engine.step()
    assert event.finish_reason == "cancelled"
    assert not engine.has_work
    engine.cancel(handle)
    assert engine.step() == []


def test_a_full_queue_says_when_to_come_back() -> None:
    engine = tiny_engine(tiny_model(), queue_limit=2)
    for _ in range(2):
        engine.submit(Request(ids=[1, 2], sampling=GREEDY, max_tokens=3))
    with pytest.raises(BusyError, match="2 requests wait already; at most 2") as caught:
        engine.submit(Request(ids=[1, 2], sampling=GREEDY, max_tokens=3))
    assert 1 <= caught.value.retry_after_s <= 60
    assert engine.stats().refused == 1


def test_what_can_never_fit_is_refused_with_the_largest_length() -> None:
    engine = tiny_engine(tiny_model(context=128), cache_tokens=40)
    with pytest.raises(ContextError, match=r"30 tokens and 20 more .* holds 40 tokens"):
        engine.submit(Request(ids=[1] * 30, sampling=GREEDY, max_tokens=20))
    with pytest.raises(ContextError, match="context is 128"):
        engine.submit(Request(ids=[1] * 130, sampling=GREEDY))
    with pytest.raises(RequestError, match="id 97"):
        engine.submit(Request(ids=[97], sampling=GREEDY))
    (samples,) = run(engine, Request(ids=[1] * 30, sampling=GREEDY))
    assert len(samples[0].ids) == 10


def test_a_deadline_ends_a_request() -> None:
    now = [0.0]
    engine = tiny_engine(tiny_model())
    engine._clock = lambda: now[0]
    engine.submit(Request(ids=[1, 2], sampling=GREEDY, max_tokens=30, deadline_s=5))
    assert engine.step()[0].finish_reason is None
    now[0] += 100_000
    (event,) = engine.step()
    assert event.finish_reason == "deadline"
    assert engine.pages.free == engine.pages.pages


@pytest.mark.skipif(not BACKENDS[0], reason="puna was installed without a compiler")
@pytest.mark.parametrize("draft_tokens", [0, 4])
def test_logprobs_are_the_same_to_the_bit_in_any_company(draft_tokens: int) -> None:
    """Alone, among others, preempted, guessed for, and with half the prompt from the cache."""
    model = tiny_model(context=128)
    (prompt,) = prompts_of([37])
    request = Request(ids=prompt, sampling=GREEDY, max_tokens=40, logprobs=3)
    alone = run(tiny_engine(model), request)[0][0].logprobs
    engine = tiny_engine(model, cache_tokens=136, draft_tokens=draft_tokens)
    company = [Request(ids=ids, sampling=GREEDY, max_tokens=50) for ids in prompts_of([9, 5, 7])]
    done = run(engine, *company, request)
    assert engine.stats().preemptions > 0
    assert done[-1][0].logprobs == alone
    again = run(engine, request)[0][0]
    assert again.spent is not None
    assert again.spent.cached_tokens > 0
    assert again.logprobs == alone
