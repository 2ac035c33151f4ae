"""A guess never changes what is written, only how many steps it takes."""

from collections import Counter

import pytest
import torch

from puna.errors import ConfigError
from puna.infer.engine import Engine, EngineConfig, Request
from puna.infer.generate import generate_ids
from puna.infer.ngrams import NGrams
from puna.infer.sampling import SamplingConfig
from puna.model.llama import Llama
from tests.infer.engines import BACKENDS, expected, run, tiny_engine
from tests.infer.tiny import GREEDY, WARM, prompts_of, tiny_model

EVERY_BACKEND = pytest.mark.parametrize("is_native", BACKENDS)


def drafting(model: Llama, draft: Llama, *, is_native: bool, cache_tokens: int = 512) -> Engine:
    config = EngineConfig(
        page_tokens=8, most_running=6, tokens_a_step=48, cache_tokens=cache_tokens, draft_tokens=4,
        is_native=is_native,
    )  # fmt: skip
    return Engine(model, None, config, draft=draft)


def test_what_followed_before_is_guessed_to_follow_again() -> None:
    ngrams, text = NGrams(), [5, 6, 7, 8, 9, 1, 6, 7]
    assert ngrams.guess(text, 3) == (8, 9, 1)
    assert ngrams.guess([*text, 2], 3) == ()
    assert ngrams.guess([*text, 2, 9, 1], 2) == (6, 7)
    assert ngrams.guess([*text, 2, 9, 1, 5, 6, 7], 9) == (8, 9, 1, 6, 7, 2, 9, 1, 5)
    assert NGrams().guess([1, 2], 4) == ()


def test_a_text_that_repeats_itself_is_guessed_past_its_end() -> None:
    assert NGrams().guess([1, 7, 7, 7], 6) == (7,) * 6
    assert NGrams().guess([4, 5, 6, 4, 5, 6, 4], 7) == (5, 6, 4, 5, 6, 4, 5)


@EVERY_BACKEND
@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "warm"])
def test_lookup_changes_nothing_and_is_often_right(
    is_native: bool, sampling: SamplingConfig
) -> None:
    model = tiny_model(context=256, vocab=5)  # so few ids repeat themselves
    prompts = prompts_of([36, 15, 30], vocab=5)
    loop = generate_ids(model, prompts, max_tokens=60, sampling=sampling)
    engine = tiny_engine(model, is_native=is_native, draft_tokens=4, cache_tokens=768)
    requests = [Request(ids=ids, sampling=sampling, max_tokens=60) for ids in prompts]
    done = run(engine, *requests)
    assert [samples[0].ids for samples in done] == [list(row.ids) for row in loop]
    assert engine.stats().accepted_tokens > 10
    assert engine.pages.free == engine.pages.pages


@EVERY_BACKEND
@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "warm"])
def test_a_draft_model_changes_nothing(is_native: bool, sampling: SamplingConfig) -> None:
    model, prompts = tiny_model(context=128), prompts_of([21, 3, 40, 12])
    loop = generate_ids(model, prompts, max_tokens=30, sampling=sampling)
    requests = [Request(ids=ids, sampling=sampling, max_tokens=30) for ids in prompts]
    for draft in (tiny_model(context=128, seed=3), tiny_model(context=24)):
        engine = drafting(model, draft, is_native=is_native, cache_tokens=192)
        done = run(engine, *requests)
        assert [samples[0].ids for samples in done] == [list(row.ids) for row in loop]
        assert engine.stats().drafted_tokens > 0


@EVERY_BACKEND
@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "warm"])
def test_a_draft_model_that_knows_all_is_always_right(
    is_native: bool, sampling: SamplingConfig
) -> None:
    model = tiny_model(context=128)
    engine = drafting(model, model, is_native=is_native)
    requests = [Request(ids=ids, sampling=sampling, max_tokens=26) for ids in prompts_of([17, 9])]
    run(engine, *requests, *requests)
    stats = engine.stats()
    assert stats.accepted_tokens >= 0.99 * stats.drafted_tokens > 0
    assert stats.steps < 2 * (2 + 26 // 5 + 2)


@EVERY_BACKEND
def test_samples_that_share_a_prompt_may_guess(is_native: bool) -> None:
    model, (prompt,) = tiny_model(context=128), prompts_of([9])
    warm = SamplingConfig(temperature=1.0, top_p=0.9, seed=2)
    seeds = [SamplingConfig(temperature=1.0, top_p=0.9, seed=2 + index) for index in range(3)]
    loop = generate_ids(model, [prompt] * 3, max_tokens=30, sampling=seeds)
    engine = drafting(model, tiny_model(context=128, seed=1), is_native=is_native)
    (samples,) = run(engine, Request(ids=prompt, sampling=warm, max_tokens=30, n=3))
    assert [samples[index].ids for index in range(3)] == [list(row.ids) for row in loop]


def test_guessing_keeps_the_distribution() -> None:
    """Chi-square of the second token, which was guessed, against the model's own probabilities.

    Seven ids leave six degrees of freedom: 22.46 is exceeded by chance once in a thousand times.
    """
    vocab, draws, prompt = 7, 1500, [1, 2, 3, 1, 2]
    model, draft = tiny_model(vocab=vocab), tiny_model(vocab=vocab, seed=1)
    first = model(torch.tensor([prompt]))[0, -1].double().softmax(-1)
    texts = torch.tensor([[*prompt, token] for token in range(vocab)])
    second = model(texts)[:, -1].double().softmax(-1)
    likely = draws * (first[:, None] * second).sum(0)
    config = EngineConfig(most_running=50, cache_tokens=6400, draft_tokens=1)
    engine = Engine(model, None, config, draft=draft)
    found: Counter[int] = Counter()
    for seed in range(0, draws, 50):
        warm = SamplingConfig(temperature=1.0, top_p=None, seed=seed)
        (samples,) = run(engine, Request(ids=prompt, sampling=warm, max_tokens=3, n=50))
        found.update(sample.ids[1] for sample in samples.values())
    stats = engine.stats()
    assert stats.drafted_tokens == draws > stats.accepted_tokens > 200
    counts = torch.tensor([found[token] for token in range(vocab)])
    assert float(((counts - likely) ** 2 / likely).sum()) < 22.46


def test_a_draft_model_of_another_vocabulary_is_refused() -> None:
    with pytest.raises(ConfigError, match="has 50 ids and the model 97"):
        drafting(tiny_model(), tiny_model(vocab=50), is_native=False)


def test_a_request_may_forbid_guesses() -> None:
    model = tiny_model(context=128)
    engine = drafting(model, model, is_native=BACKENDS[0])
    request = Request(ids=[1, 2, 3], sampling=GREEDY, max_tokens=9, speculates=False)
    assert run(engine, request)[0][0].ids == expected(model, [1, 2, 3], 9)
    assert engine.stats().drafted_tokens == 0
