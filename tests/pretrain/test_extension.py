"""Lengthening keeps the weights and changes only the slow rotations."""

import pytest
import torch

from puna.errors import ConfigError
from puna.model.config import ModelConfig, RopeScaling
from puna.model.init import initialise
from puna.model.llama import Llama
from puna.pretrain.extension import lengthen

SHAPE = ModelConfig(
    width=48, layers=2, heads=3, kv_heads=1, mlp_width=64, vocab=61, context=32, rope_theta=1e4
)


def base() -> Llama:
    model = Llama(SHAPE)
    initialise(model, seed=0, std=0.2)
    return model.eval().requires_grad_(False)


def test_the_weights_stay_and_the_context_grows() -> None:
    short = base()
    scaling = RopeScaling(factor=4.0, original_context=32)
    longer = lengthen(short, context=128, scaling=scaling)
    assert longer.config.context == 128
    assert longer.config.rope_scaling == scaling
    for name, weight in short.state_dict().items():
        assert torch.equal(longer.state_dict()[name], weight)
    assert longer(torch.zeros(1, 128, dtype=torch.int64)).shape == (1, 128, 61)


def test_fast_rotations_are_kept_and_slow_ones_divided() -> None:
    """Wavelengths under 32/4 = 8 positions stay; those over 32 turn at a quarter of the speed."""
    short = base()
    longer = lengthen(short, context=128, scaling=RopeScaling(factor=4.0, original_context=32))
    lengths = 2 * torch.pi / short.freqs
    assert torch.equal(longer.freqs[lengths < 8], short.freqs[lengths < 8])
    assert torch.equal(longer.freqs[lengths > 32], short.freqs[lengths > 32] / 4)
    assert not torch.equal(longer.freqs, short.freqs)


def test_a_context_that_does_not_grow_is_refused() -> None:
    with pytest.raises(ConfigError, match="already reads 32"):
        lengthen(base(), context=32, scaling=RopeScaling())
