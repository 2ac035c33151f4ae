import copy

import pytest
import torch

from puna.infer.graphs import GraphRunner, Step
from puna.infer.joined import joined
from puna.infer.paged import NativePages, TorchPages
from puna.infer.runner import PagedCache, Part
from puna.ops.gpu.choice import Gpu
from puna.ops.gpu.matrix import GpuMatrix
from puna.ops.gpu.panels import as_gpu_matrix
from puna.ops.lowbit import Packed
from puna.quant.fp8 import Fp8Linear, quantize_fp8
from puna.quant.linear import QuantLinear
from tests.infer.tiny import prompts_of, tiny_model
from tests.ops.weights import random_packed, seeded

HOPPER = Gpu(capability=(9, 0), has_triton=True)


def runner_of(model) -> GraphRunner:
    return GraphRunner(model, fused=False, recorder=None)


def pages_of(runner: GraphRunner) -> NativePages:
    return NativePages(runner, PagedCache(runner.config, 16, page_tokens=8))


def test_steps_of_a_gpu_give_the_logits_of_the_model() -> None:
    """Three sequences in pages that lie anywhere, prompts of unequal length, then single tokens."""
    ours, theirs = pages_of(runner_of(tiny_model())), TorchPages(tiny_model(), 16, page_tokens=8)
    texts = prompts_of([20, 9, 1], seed=3)
    tables = [[5, 0, 11], [2, 7], [9]]
    reads = [
        [Part(ids=t[:-2] or t, held=0, pages=p) for t, p in zip(texts, tables, strict=True)],
        [Part(ids=texts[0][18:19], held=18, pages=tables[0])],
        [
            Part(ids=texts[0][19:], held=19, pages=tables[0]),
            Part(ids=texts[1][7:], held=7, pages=tables[1], wants_all=True),
            Part(ids=[4], held=1, pages=tables[2]),
        ],
        [
            Part(ids=[n], held=h, pages=p)
            for n, h, p in zip([1, 2, 3], [20, 9, 2], tables, strict=True)
        ],
    ]
    for parts in reads:
        torch.testing.assert_close(ours.read(parts), theirs.read(parts), rtol=1e-4, atol=1e-4)
    assert not ours.is_exact


def test_a_step_is_recorded_once_for_each_number_of_rows_and_cache() -> None:
    made: list[Step] = []

    def recorder(step: Step) -> Step:
        made.append(step)
        return step

    runner = GraphRunner(tiny_model(), fused=False, recorder=recorder)
    cache = PagedCache(runner.config, 8, page_tokens=8)
    cache.keys.fill_(torch.nan)  # what was never written is never read
    cache.values.fill_(torch.nan)
    for rows in (3, 4, 3, 1):
        parts = [Part(ids=[n], held=0, pages=[n]) for n in range(rows)]
        assert runner.step(parts, cache).isfinite().all()
    assert len(made) == 2
    assert cache.keys[:, 4:].isnan().all()
    runner.step([Part(ids=[1], held=0, pages=[0])], PagedCache(runner.config, 8, page_tokens=8))
    assert len(made) == 3


def test_joined_weights_are_in_memory_once() -> None:
    model = tiny_model()
    attn = model.blocks[0].get_submodule("attn")
    layers = [attn.get_submodule(name) for name in ("wq", "wk", "wv")]
    x = torch.randn(3, 48, generator=seeded(0))
    expected = torch.cat([layer(x) for layer in layers], dim=-1)
    torch.testing.assert_close(joined(layers)(x), expected)
    places = {layer.get_parameter("weight").untyped_storage().data_ptr() for layer in layers}
    assert len(places) == 1


def test_low_bit_weights_are_joined_too() -> None:
    x = torch.randn(2, 64, generator=seeded(1))
    low = [QuantLinear(random_packed("int4", out, 64)) for out in (10, 22)]
    for layer in low:
        assert isinstance(layer.packed, Packed)
        matrix = as_gpu_matrix(layer.packed, "cpu", HOPPER)
        assert matrix is not None
        layer.packed = matrix
    weights = [torch.randn(out, 64, generator=seeded(out)) for out in (16, 32)]
    eight = [Fp8Linear(quantize_fp8(weight)) for weight in weights]
    mixed = [low[0], torch.nn.Linear(64, 8, bias=False)]
    for layers in (mixed, low, eight):
        expected = torch.cat([layer(x) for layer in layers], dim=-1)
        torch.testing.assert_close(joined(layers)(x), expected)
        torch.testing.assert_close(torch.cat([layer(x) for layer in layers], dim=-1), expected)
    assert isinstance(low[1].packed, GpuMatrix)
    assert low[0].packed.words.data_ptr() < low[1].packed.words.data_ptr()


def test_a_processor_a_trained_model_and_a_strange_layer_record_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model()
    assert GraphRunner.of(model) is None
    monkeypatch.setattr("puna.infer.graphs.gpu_of", lambda _: HOPPER)
    assert GraphRunner.of(tiny_model().requires_grad_(True)) is None
    runner = GraphRunner.of(model)
    assert runner is not None
    assert GraphRunner.of(model) is runner
    assert not vars(copy.deepcopy(model))["graph_runner"]
    model.blocks[0].mlp.up = torch.nn.Sequential(torch.nn.Identity())
    assert GraphRunner.of(model) is None
