"""The planted circuit copies what it has seen, and nothing else changes."""

from dataclasses import replace

import pytest
import torch

from puna.errors import ConfigError
from puna.model.config import ModelConfig
from puna.model.induction import plant_induction
from puna.model.init import initialise
from puna.model.llama import Llama

SHAPE = ModelConfig(
    width=256, layers=3, heads=4, kv_heads=2, mlp_width=320, vocab=1024, context=512, tied=True,
    rope_theta=10_000.0,
)  # fmt: skip


def fresh(*, planted: bool, config: ModelConfig = SHAPE) -> Llama:
    model = Llama(config)
    initialise(model, seed=0)
    if planted:
        plant_induction(model, seed=0)
    return model.eval().requires_grad_(False)


def copied(model: Llama) -> float:
    """Share of the tokens of a repeated random text that are the likeliest, the second time."""
    text = torch.randint(SHAPE.vocab, (4, 50), generator=torch.Generator().manual_seed(1))
    ids = torch.cat((text, text), dim=1)
    guesses = model(ids)[:, 50:-1].argmax(-1)
    return float((guesses == ids[:, 51:]).float().mean())


def test_a_planted_model_copies_before_any_training() -> None:
    assert copied(fresh(planted=False)) < 0.05
    assert copied(fresh(planted=True)) > 0.5


def test_the_first_guess_stays_near_uniform() -> None:
    """A text seen for the first time costs about ln 1024 = 6.93 nats a token, as before."""
    ids = torch.randperm(SHAPE.vocab, generator=torch.Generator().manual_seed(2))[None, :60]
    logits = fresh(planted=True)(ids)[:, :-1]
    nats = torch.nn.functional.cross_entropy(logits[0], ids[0, 1:])
    assert 6.7 < float(nats) < 7.4


def test_the_same_seed_plants_the_same_weights() -> None:
    one, two = fresh(planted=True).state_dict(), fresh(planted=True).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("change", [{"layers": 1}, {"width": 64}])
def test_a_model_without_room_for_the_circuit_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="Leave it out"):
        fresh(planted=True, config=replace(SHAPE, head_width=64, **change))
