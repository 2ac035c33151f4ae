"""What keys and values are kept in: chosen by name, and the same numbers as the reference."""

import pytest
import torch

from puna.errors import RequestError
from puna.infer.engine import Engine, EngineConfig
from puna.infer.generate import generate_ids
from puna.infer.paged import paged_model
from puna.infer.request import Request
from puna.infer.runner import CACHES, PagedCache, Part, cache_dtype_of
from puna.infer.sampling import SamplingConfig
from puna.ops import native
from puna.quant.cache import CacheFormat, QuantKVCache
from tests.infer.test_runner import EVERY_LEVEL, LEVELS, runner_of, text, tiny_llama

GREEDY = SamplingConfig(temperature=0)
NATIVE = pytest.mark.skipif(not LEVELS, reason="puna was installed without a compiler")


SMALL: tuple[CacheFormat, ...] = ("int8", "fp8")
EVERY_SMALL_CACHE = pytest.mark.parametrize("form", SMALL)


@NATIVE
@EVERY_LEVEL
@EVERY_SMALL_CACHE
def test_a_cache_of_eight_bits_reads_what_the_reference_reads(
    level: str, form: CacheFormat
) -> None:
    """Both round a head of a token alike; a tie that falls otherwise moves a value by one step."""
    model, ids = tiny_llama(), text(150)
    exact = model(torch.tensor([ids]))[0]
    held = QuantKVCache(model.config, 1, 160, form=form)
    reference = model(torch.tensor([ids]), cache=held)[0]
    runner = runner_of(model, level)
    cache = PagedCache(runner.config, 3, dtype=CACHES[form])
    ours = runner.step([Part(ids=ids, held=0, pages=[2, 0, 1], wants_all=True)], cache)
    lost = (reference - exact).abs().mean()
    assert (ours - exact).abs().mean() < 1.1 * lost
    assert (ours - reference).abs().mean() < 0.2 * lost


@NATIVE
@EVERY_LEVEL
def test_the_codes_of_an_fp8_cache_are_those_of_the_reference(level: str) -> None:
    """The first layer's keys and values differ by rounding alone before they are narrowed."""
    model, ids = tiny_llama(), text(60)
    held = QuantKVCache(model.config, 1, 64, form="fp8")
    model(torch.tensor([ids]), cache=held)
    cache = PagedCache(model.config, 1, dtype=torch.float8_e4m3fn)
    runner_of(model, level).step([Part(ids=ids, held=0, pages=[0])], cache)
    for ours, theirs in ((cache.keys, held.keys), (cache.values, held.values)):
        mine, reference = ours[0, 0, :, :60].float(), theirs[0, 0, :60].transpose(0, 1).float()
        assert (mine != reference).float().mean() < 0.01
        torch.testing.assert_close(mine, reference, rtol=0.13, atol=2.0**-9)
    assert cache.key_scales is not None
    scales = held.key_scales[0, 0, :60, :, 0].T
    torch.testing.assert_close(cache.key_scales[0, 0, :, :60], scales, rtol=1e-5, atol=0)


@NATIVE
def test_a_cache_of_eight_bits_takes_half_of_one_of_sixteen_and_its_scales() -> None:
    config = tiny_llama().config
    sizes = {
        name: sum(part.nbytes for part in PagedCache(config, 2, dtype=dtype).parts())
        for name, dtype in CACHES.items()
    }
    scales = sizes["bf16"] // 2 * 4 // config.head_width
    assert sizes["int8"] == sizes["fp8"] == sizes["bf16"] // 2 + scales
    assert sizes["f32"] == 2 * sizes["bf16"]


@NATIVE
@EVERY_SMALL_CACHE
def test_the_engine_and_the_simple_loop_write_the_same_with_a_small_cache(
    form: CacheFormat,
) -> None:
    model, prompts = tiny_llama(), [text(70, seed=1), text(9, seed=2)]
    loop = generate_ids(model, prompts, max_tokens=12, sampling=GREEDY, kv_cache=form)
    engine = Engine(model, config=EngineConfig(cache_tokens=512, cache_dtype=CACHES[form]))
    handles = [
        engine.submit(Request(ids=tuple(ids), max_tokens=12, sampling=GREEDY)) for ids in prompts
    ]
    written: dict[int, list[int]] = {handle: [] for handle in handles}
    while engine.has_work:
        for event in engine.step():
            written[event.handle] += event.ids
    assert [tuple(written[handle]) for handle in handles] == [row.ids for row in loop]


@NATIVE
@EVERY_SMALL_CACHE
def test_a_cache_grows_in_its_own_dtype(form: CacheFormat) -> None:
    model = tiny_llama()
    long = generate_ids(
        model, [text(3)], max_tokens=290, sampling=GREEDY, kv_cache=form, ignore_eos=True
    )
    assert len(long[0].ids) == 290


def test_a_cache_that_does_not_exist_is_refused() -> None:
    with pytest.raises(RequestError, match="'fp4' was given; one of f32, bf16, int8, fp8"):
        cache_dtype_of("fp4")


def test_where_torch_computes_no_cache_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "level", lambda: None)
    with pytest.raises(RequestError, match="torch computes this model"):
        generate_ids(tiny_llama(), [[1]], max_tokens=2, sampling=GREEDY, kv_cache="bf16")
    with pytest.raises(RequestError, match="torch computes this model"):
        paged_model(tiny_llama(), 4, dtype=torch.float8_e4m3fn)
