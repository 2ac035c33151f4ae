"""The table of names, and the two orders of rows."""

from typing import get_args

import pytest
import torch

from puna.checkpoint.layout import to_half_split, to_interleaved
from puna.checkpoint.names import TABLE, Dialect, places
from puna.errors import FormatError
from puna.model.llama import Llama
from tests.checkpoint.models import GENERATIONS


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_table_names_exactly_the_parameters_of_the_model(generation: str) -> None:
    config = GENERATIONS[generation]
    with torch.device("meta"):
        state = Llama(config).state_dict()
    found = {place.puna: place.shape for place in places(config)}
    assert found == {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_no_two_tensors_share_a_name_in_any_dialect() -> None:
    for dialect in get_args(Dialect):
        names = [place.name for place in places(GENERATIONS["3"], dialect)]
        assert len(set(names)) == len(names) == 3 * 9 + 3


def test_an_8b_gguf_holds_292_tensors_with_the_rope_divisors() -> None:
    """The specification counts 32 x 9 + 3 + 1."""
    assert 32 * sum("{i}" in row.gguf for row in TABLE) + 3 + 1 == 292


def test_a_head_of_eight_rows_is_reordered_as_published() -> None:
    """Interleaved to half-split is [0, 2, 4, 6, 1, 3, 5, 7] in each head."""
    rows = torch.arange(16.0)[:, None].expand(16, 3)
    order = to_half_split(rows, heads=2)[:, 0].tolist()
    assert order == [0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15]


@pytest.mark.parametrize(("heads", "rows"), [(12, 96), (4, 32), (6, 48), (2, 16)])
def test_the_two_orders_are_inverse_for_query_and_key_heads(heads: int, rows: int) -> None:
    weight = torch.randn(rows, 20, generator=torch.Generator().manual_seed(heads))
    assert torch.equal(to_interleaved(to_half_split(weight, heads), heads), weight)
    assert torch.equal(to_half_split(to_interleaved(weight, heads), heads), weight)


@pytest.mark.parametrize(("right", "wrong"), [(4, 12), (12, 4), (2, 6), (6, 2)])
def test_a_wrong_head_count_gives_another_order(right: int, wrong: int) -> None:
    weight = torch.randn(48, 20, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(to_half_split(weight, right), to_half_split(weight, wrong))


def test_interleaved_rotation_equals_half_split_rotation_of_reordered_rows() -> None:
    """Rotating pairs (2i, 2i+1) gives the scores that rotating (i, i + E/2) gives after loading."""
    generator = torch.Generator().manual_seed(1)
    wq, wk = torch.randn(2 * 8, 5, generator=generator), torch.randn(2 * 8, 5, generator=generator)
    x, angles = torch.randn(5, generator=generator), torch.rand(4, generator=generator)

    def interleaved(weight: torch.Tensor, turns: float) -> torch.Tensor:
        pairs = torch.view_as_complex((weight @ x).view(2, 4, 2))
        turned = pairs * torch.polar(torch.ones(4), turns * angles)
        return torch.view_as_real(turned).reshape(2, 8)

    def half_split(weight: torch.Tensor, turns: float) -> torch.Tensor:
        first, second = (to_half_split(weight, 2) @ x).view(2, 8).chunk(2, dim=1)
        cos, sin = (turns * angles).cos(), (turns * angles).sin()
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=1)

    theirs = (interleaved(wq, 7.0) * interleaved(wk, 3.0)).sum(dim=1)
    ours = (half_split(wq, 7.0) * half_split(wk, 3.0)).sum(dim=1)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_rows_that_no_head_count_divides_are_refused() -> None:
    with pytest.raises(FormatError, match="12 heads of an even number of rows"):
        to_half_split(torch.zeros(32, 5), 12)
