"""The numbers that tokens are drawn by are torch's, which gave them before."""

import pytest
import torch

from puna.infer.uniforms import Uniforms


@pytest.mark.parametrize("seed", [0, 1, 7, 2**31, 2**32 + 5, 2**63 - 1])
def test_a_seed_gives_the_numbers_of_torch(seed: int) -> None:
    """700 numbers: the twister's state of 624 words is worked through more than twice."""
    generator, ours = torch.Generator().manual_seed(seed), Uniforms(seed)
    theirs = [torch.rand(1, generator=generator, dtype=torch.float64).item() for _ in range(700)]
    assert [ours.next() for _ in range(700)] == theirs


def test_numbers_looked_at_ahead_are_not_taken() -> None:
    ours = Uniforms(3)
    ours.next()
    ahead = ours.ahead(5)
    assert [ours.next() for _ in range(5)] == ahead
