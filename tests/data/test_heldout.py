"""What is held out is held out everywhere, and is about as much as asked."""

import pytest

from puna.data.heldout import held_out_group, held_out_number, mentions_held_out


def test_one_number_in_ten_is_held_out_and_no_small_one() -> None:
    assert not any(map(held_out_number, range(20)))
    for low, high in ((20, 1_000), (1_000, 10_000), (10_000, 100_000)):
        share = sum(map(held_out_number, range(low, high))) / (high - low)
        # Binomial: three standard deviations of a tenth over the smallest range are 0.029.
        assert share == pytest.approx(0.1, abs=0.03)


def test_the_rule_never_changes() -> None:
    # Evaluations of old runs rest on it; the list was computed once with this rule.
    held = [n for n in range(200) if held_out_number(n)]
    assert held == HELD_OUT_BELOW_200


def test_neighbours_of_a_held_out_number_are_mostly_free() -> None:
    held = [n for n in range(20, 5_000) if held_out_number(n)]
    both = sum(held_out_number(n + 1) for n in held)
    assert both / len(held) < 0.2


def test_numbers_are_found_inside_text() -> None:
    held = next(n for n in range(20, 100) if held_out_number(n))
    assert mentions_held_out(f"What is 3 plus {held}?")
    assert mentions_held_out(f"7.{held}")
    assert not mentions_held_out("What is 3 plus 4?")


def test_groups_are_split_by_share_and_seed() -> None:
    names = [f"module{i}" for i in range(4_000)]
    held = {name for name in names if held_out_group(name, 0.05)}
    assert len(held) / len(names) == pytest.approx(0.05, abs=0.015)
    assert held != {name for name in names if held_out_group(name, 0.05, seed=1)}
    assert not any(held_out_group(name, 0.0) for name in names)


HELD_OUT_BELOW_200 = [
    29,
    30,
    31,
    43,
    68,
    72,
    75,
    82,
    102,
    107,
    117,
    120,
    121,
    128,
    131,
    133,
    135,
    153,
    161,
    171,
    173,
    178,
    186,
]
