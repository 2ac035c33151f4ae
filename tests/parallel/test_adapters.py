"""LoRA adapters on a divided model: every rank adds its own part of the two thin matrices."""

from pathlib import Path
from typing import Any

import pytest
import torch

from puna.checkpoint.shard import fill_share
from puna.infer.adapters import with_adapter
from puna.model.config import ModelConfig
from puna.parallel.apply import Share
from puna.quant.recipe import as_recipe, quantize_model
from tests.infer.test_adapters import PLACES, save
from tests.parallel.test_low_bits import model
from tests.parallel.threads import divided, logits_of

IDS = torch.tensor([[5, 7, 11, 2]])


def adapter_of(config: ModelConfig) -> dict[str, torch.Tensor]:
    """Thin matrices of another size than those of `tests.infer.test_adapters`."""
    D, F, found = config.width, config.mlp_width, {}
    generator = torch.Generator().manual_seed(7)
    for name, (out, inner) in zip(PLACES, ((D, D), (D, F)), strict=True):
        found[name.format("A")] = torch.randn(4, inner, generator=generator) * 0.1
        found[name.format("B")] = torch.randn(out, 4, generator=generator) * 0.1
    return found


@pytest.mark.parametrize(("tensor", "pipeline"), [(2, 1), (2, 2)])
@pytest.mark.parametrize("scheme", [None, "int8"])
def test_an_adapter_on_a_divided_model_is_that_of_the_whole(
    tmp_path: Path, tensor: int, pipeline: int, scheme: Any
) -> None:
    whole = model()
    folder = save(tmp_path, **adapter_of(whole.config))
    state = dict(whole.state_dict())
    recipe = None if scheme is None else as_recipe(scheme)
    if scheme is not None:
        quantize_model(whole, scheme)
    shares = divided(
        tensor, pipeline,
        lambda links: fill_share(
            whole.config, state, links, dtype=torch.float32, recipe=recipe
        ),
    )  # fmt: skip
    before = logits_of(shares, IDS)
    adapted = [with_adapter(share, folder) for share in shares]
    assert all(isinstance(one, Share) for one in adapted)
    found = logits_of(adapted, IDS)  # type: ignore[arg-type]
    torch.testing.assert_close(found, with_adapter(whole, folder)(IDS), rtol=1e-4, atol=1e-4)
    assert torch.equal(logits_of(shares, IDS), before)
    assert not torch.allclose(found, before)
