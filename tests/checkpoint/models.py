"""Tiny random models of every generation, for the tests of this folder."""

from dataclasses import replace

import torch
from torch import Tensor

from puna.checkpoint.names import places
from puna.model.config import ModelConfig, RopeScaling
from puna.tokenizer.ranks import RankTokenizer
from puna.tokenizer.train import train_bpe

_LLAMA_1 = ModelConfig(
    width=48,
    layers=2,
    heads=6,
    kv_heads=6,
    mlp_width=80,
    vocab=520,
    context=64,
    rope_theta=10_000.0,
    norm_eps=1e-6,
)
_LLAMA_3 = ModelConfig(
    width=96, layers=3, heads=12, kv_heads=4, mlp_width=64, vocab=520, context=128
)

# Query heads and key heads differ so that 12 / 4 = 3 and 6 / 2 = 3 are no head count themselves.
GENERATIONS: dict[str, ModelConfig] = {
    "1": _LLAMA_1,
    "2": replace(_LLAMA_1, kv_heads=2, norm_eps=1e-5, context=96),
    "3": _LLAMA_3,
    "3.1": replace(_LLAMA_3, rope_scaling=RopeScaling(factor=8.0)),
    "3.2": replace(_LLAMA_3, rope_scaling=RopeScaling(factor=32.0), tied=True),
}


def random_state(
    config: ModelConfig, seed: int = 0, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Draw every tensor of the model, norms around one."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for place in places(config):
        drawn = torch.randn(place.shape, generator=generator) * 0.2
        state[place.puna] = (drawn + (1.0 if len(place.shape) == 1 else 0.0)).to(dtype)
    return state


def tiny_tokenizer() -> RankTokenizer:
    """Return a tokenizer of Llama 3's kind with 520 ids."""
    return train_bpe(["the cat and the hat and the bat sat on the mat"] * 3, 520)


def assert_same_state(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Compare every tensor bit for bit."""
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name
