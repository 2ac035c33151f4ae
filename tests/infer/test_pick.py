"""What a request may ask of its tokens, beside temperature and filters."""

import math

import pytest
import torch

from puna.errors import RequestError, StateError
from puna.infer.engine import Engine, EngineConfig, Request
from puna.infer.generate import generate_ids
from puna.infer.sampling import SamplingConfig
from tests.infer.engines import BACKENDS, expected, run, tiny_engine
from tests.infer.tiny import GREEDY, WARM, prompts_of, tiny_model
from tests.llm.scripted import BYTES

MODEL = tiny_model(context=128)
EVERY_BACKEND = pytest.mark.parametrize("is_native", BACKENDS)


def greedy(prompt: list[int], count: int = 12, **wishes: object) -> list[int]:
    request = Request(ids=prompt, sampling=GREEDY, max_tokens=count, **wishes)  # type: ignore[arg-type]
    return run(tiny_engine(MODEL), request)[0][0].ids


def logprobs(ids: list[int]) -> torch.Tensor:
    return MODEL(torch.tensor([ids]))[0].log_softmax(-1)


def test_penalties_lower_what_was_written_and_not_the_prompt() -> None:
    """Written again by hand: scores minus presence, minus frequency times the count."""
    ids, start = [1, 2, 3], 3
    for _ in range(12):
        scores = MODEL(torch.tensor([ids]))[0, -1]
        for token in set(ids[start:]):
            scores[token] -= 0.7 + 0.4 * ids[start:].count(token)
        ids.append(int(scores.argmax()))
    assert greedy([1, 2, 3], presence_penalty=0.7, frequency_penalty=0.4) == ids[start:]
    assert greedy([1, 2, 3], frequency_penalty=100.0, count=40).__len__() == 40
    assert len(set(greedy([1, 2, 3], frequency_penalty=100.0, count=40))) == 40


def test_a_bias_bans_and_forces_ids() -> None:
    (first, *_) = plain = greedy([5, 6])
    assert first not in greedy([5, 6], logit_bias={first: -100.0})
    assert greedy([5, 6], logit_bias={44: 100.0}) == [44] * len(plain)
    with pytest.raises(RequestError, match="logit_bias names the id 97"):
        greedy([5, 6], logit_bias={97: 1.0})


def test_a_stop_id_ends_a_sample_unless_it_is_too_early_or_ignored() -> None:
    plain = greedy([7, 8, 9])
    stop = plain[3]
    at = plain.index(stop)
    engine = Engine(MODEL, None, EngineConfig(cache_tokens=256), stop_ids=frozenset({stop}))
    ended, early, ignored = run(
        engine,
        Request(ids=[7, 8, 9], sampling=GREEDY, max_tokens=12),
        Request(ids=[7, 8, 9], sampling=GREEDY, max_tokens=12, min_tokens=at + 1),
        Request(ids=[7, 8, 9], sampling=GREEDY, max_tokens=12, ignore_eos=True),
    )
    assert (ended[0].ids, ended[0].finish_reason) == (plain[: at + 1], "stop")
    assert ended[0].stopped_by == stop
    assert len(early[0].ids) > at + 1 or early[0].ids[at] != stop
    assert (ignored[0].ids, ignored[0].finish_reason) == (plain, "length")


def test_a_stop_string_ends_a_sample_wherever_its_tokens_are_cut() -> None:
    model = tiny_model(vocab=BYTES.vocab, context=256)
    engine = Engine(model, BYTES, EngineConfig(cache_tokens=1024), stop_ids=frozenset())
    letters = dict.fromkeys((97, 98, 99), 60.0)
    plain = Request(
        ids=BYTES.encode("go"), sampling=WARM, max_tokens=80, logit_bias=letters, ignore_eos=True
    )
    text = bytes(run(engine, plain)[0][0].ids).decode()
    stop = text[20:23]
    end = text.index(stop) + 3
    request = Request(
        ids=plain.ids, sampling=WARM, max_tokens=80, logit_bias=letters, stop=[stop, "zzz"]
    )
    sample = run(engine, request)[0][0]
    assert (bytes(sample.ids).decode(), sample.stopped_by) == (text[:end], stop)
    with pytest.raises(RequestError, match="no tokenizer"):
        run(tiny_engine(MODEL), Request(ids=[1], sampling=GREEDY, stop=["a"]))


@EVERY_BACKEND
def test_logprobs_are_those_of_the_model_itself(is_native: bool) -> None:
    request = Request(
        ids=[3, 1, 4], sampling=SamplingConfig(temperature=0.5, top_k=3, top_p=None, seed=1),
        max_tokens=8, logprobs=4,
    )  # fmt: skip
    sample = run(tiny_engine(MODEL, is_native=is_native), request)[0][0]
    likely = logprobs([3, 1, 4, *sample.ids])[2:-1]
    assert len(sample.logprobs) == len(sample.ids) == 8
    for row, told in zip(likely, sample.logprobs, strict=True):
        assert math.isclose(told.logprob, float(row[told.id]), abs_tol=1e-4)
        assert [id for id, _ in told.top] == row.topk(4).indices.tolist()


@EVERY_BACKEND
def test_the_prompt_may_be_told_too_and_nothing_written(is_native: bool) -> None:
    (prompt,) = prompts_of([75])
    engine = tiny_engine(MODEL, is_native=is_native)
    for count in (0, 3, 0):  # the cache, filled by the second, is not used
        request = Request(ids=prompt, sampling=GREEDY, max_tokens=count, prompt_logprobs=2)
        sample = run(engine, request)[0][0]
        assert sample.ids == expected(MODEL, prompt, 3)[:count]
        assert sample.finish_reason == "length"
        assert sample.prompt_logprobs is not None
        first, *told = sample.prompt_logprobs
        assert first is None
        assert [item.id for item in told if item] == prompt[1:]
        likely = logprobs(prompt)
        for row, item in zip(likely, told, strict=False):
            assert item is not None
            assert math.isclose(item.logprob, float(row[item.id]), abs_tol=1e-4)
            assert len(item.top) == 2


def test_the_best_of_many_are_the_likeliest() -> None:
    warm = SamplingConfig(temperature=1.3, top_p=None, seed=11)
    request = Request(ids=[3, 1, 4], sampling=warm, max_tokens=6, n=2, best_of=5)
    samples = run(tiny_engine(MODEL), request)[0]
    seeds = [SamplingConfig(temperature=1.3, top_p=None, seed=11 + index) for index in range(5)]
    loop = generate_ids(MODEL, [[3, 1, 4]] * 5, max_tokens=6, sampling=seeds)

    def mean(ids: list[int]) -> float:
        likely = logprobs([3, 1, 4, *ids])[2:-1]
        return float(likely.gather(1, torch.tensor(ids)[:, None]).mean())

    ranked = sorted((list(row.ids) for row in loop), key=mean, reverse=True)
    assert [samples[index].ids for index in range(2)] == ranked[:2]
    spent = samples[1].spent
    assert spent is not None
    assert spent.completion_tokens == 30
    assert not samples[0].logprobs


def test_two_draws_without_a_seed_differ() -> None:
    warm = SamplingConfig(temperature=1.5, top_p=None)
    samples = run(tiny_engine(MODEL), Request(ids=[1], sampling=warm, max_tokens=12, n=3))[0]
    assert len({tuple(sample.ids) for sample in samples.values()}) == 3


@pytest.mark.parametrize(
    ("wishes", "why"),
    [
        ({"n": 0}, "n=0"),
        ({"n": 3, "best_of": 2}, "best_of=2"),
        ({"logprobs": 21}, "from 0 to 20"),
        ({"presence_penalty": math.nan}, "presence_penalty=nan"),
        ({"logit_bias": {1: math.inf}}, "logit_bias"),
        ({"deadline_s": 0.0}, "deadline_s=0.0"),
        ({"min_tokens": -1}, "min_tokens=-1"),
        ({"n": 7}, "at most 6 run together"),
        ({"max_tokens": -1}, "max_tokens=-1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_wish_is_refused(wishes: dict[str, object], why: str) -> None:
    with pytest.raises(RequestError, match=why):
        run(tiny_engine(MODEL), Request(ids=[1], sampling=GREEDY, **wishes))  # type: ignore[arg-type]


def test_logits_that_are_not_numbers_are_an_error_and_give_the_pages_back() -> None:
    model = tiny_model()
    model.norm.weight[3] = math.nan
    engine = tiny_engine(model)
    engine.submit(Request(ids=[1, 2], sampling=GREEDY))
    with pytest.raises(StateError, match="not numbers") as caught:
        engine.step()
    (event,) = engine.fail(caught.value)
    assert event.finish_reason == "error"
    assert engine.pages.free == engine.pages.pages
