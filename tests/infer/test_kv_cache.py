"""What keys and values are kept in: chosen by name, and the same numbers as the reference."""

import pytest
import torch

from puna.errors import RequestError
from puna.infer.engine import Engine, EngineConfig
from puna.infer.generate import generate_ids
from puna.infer.paged import paged_model
from puna.infer.request import Request
from puna.infer.runner import PagedCache, Part, cache_dtype_of
from puna.infer.sampling import SamplingConfig
from puna.ops import native
from puna.quant.cache import QuantKVCache
from tests.infer.test_runner import EVERY_LEVEL, LEVELS, runner_of, text, tiny_llama

GREEDY = SamplingConfig(temperature=0)
NATIVE = pytest.mark.skipif(not LEVELS, reason="puna was installed without a compiler")


@NATIVE
@EVERY_LEVEL
def test_an_int8_cache_reads_what_the_reference_reads(level: str) -> None:
    """Both round a head of a token alike; a tie that falls otherwise moves a value by 1/127."""
    model, ids = tiny_llama(), text(150)
    exact = model(torch.tensor([ids]))[0]
    reference = model(torch.tensor([ids]), cache=QuantKVCache(model.config, 1, 160))[0]
    runner = runner_of(model, level)
    cache = PagedCache(runner.config, 3, dtype=torch.int8)
    ours = runner.step([Part(ids=ids, held=0, pages=[2, 0, 1], wants_all=True)], cache)
    lost = (reference - exact).abs().mean()
    assert (ours - exact).abs().mean() < 1.1 * lost
    assert (ours - reference).abs().mean() < 0.2 * lost


@NATIVE
def test_the_engine_and_the_simple_loop_write_the_same_with_an_int8_cache() -> None:
    model, prompts = tiny_llama(), [text(70, seed=1), text(9, seed=2)]
    loop = generate_ids(
        model, prompts, max_tokens=12, sampling=GREEDY, cache_dtype=cache_dtype_of("int8")
    )
    engine = Engine(model, config=EngineConfig(cache_tokens=512, cache_dtype=torch.int8))
    handles = [
        engine.submit(Request(ids=tuple(ids), max_tokens=12, sampling=GREEDY)) for ids in prompts
    ]
    written: dict[int, list[int]] = {handle: [] for handle in handles}
    while engine.has_work:
        for event in engine.step():
            written[event.handle] += event.ids
    assert [tuple(written[handle]) for handle in handles] == [row.ids for row in loop]


@NATIVE
def test_a_cache_grows_in_its_own_dtype() -> None:
    model = tiny_llama()
    long = generate_ids(
        model, [text(3)], max_tokens=290, sampling=GREEDY, cache_dtype=torch.int8, ignore_eos=True
    )
    assert len(long[0].ids) == 290


def test_a_cache_that_does_not_exist_is_refused() -> None:
    with pytest.raises(RequestError, match="'fp4' was given; one of f32, bf16, int8"):
        cache_dtype_of("fp4")


def test_where_torch_computes_no_cache_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "level", lambda: None)
    with pytest.raises(RequestError, match="torch computes this model"):
        generate_ids(tiny_llama(), [[1]], max_tokens=2, sampling=GREEDY, cache_dtype=torch.bfloat16)
    with pytest.raises(RequestError, match="torch computes this model"):
        paged_model(tiny_llama(), 4, dtype=torch.int8)
