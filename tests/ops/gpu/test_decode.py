import torch

from puna.infer.graphs import GraphRunner
from puna.infer.runner import PagedCache, Part
from tests.infer.tiny import tiny_model
from tests.ops.gpu.matrices import DEVICE


def test_a_step_of_kernels_gives_the_logits_of_torch() -> None:
    logits = []
    for fused in (True, False):
        runner = GraphRunner(tiny_model().to(DEVICE), fused=fused, recorder=None)
        cache = PagedCache(runner.config, 5, page_tokens=8, device=DEVICE)
        runner.step([Part(ids=[3, 1, 4, 1, 5, 9, 2, 6, 5], held=0, pages=[4, 1])], cache)
        parts = [Part(ids=[7], held=9, pages=[4, 1]), Part(ids=[8], held=0, pages=[2])]
        logits.append(runner.step(parts, cache))
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-4)
