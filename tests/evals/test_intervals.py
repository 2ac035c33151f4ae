"""Intervals against published and hand-derived numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.errors import FormatError, RequestError
from puna.evals.intervals import bootstrap_ratio, wilson
from puna.evals.score import Score, share


def test_wilson_equals_the_published_example() -> None:
    """81 of 263: 0.2553 to 0.3662. Source: Newcombe 1998, Statistics in Medicine 17, table I."""
    low, high = wilson(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_wilson_has_a_width_when_every_answer_is_right() -> None:
    """0 of 20: 0 to 0.1611 (Newcombe 1998, table I); 20 of 20 is its mirror."""
    low, high = wilson(0, 20)
    assert low == 0.0
    assert round(high, 4) == 0.1611
    low, high = wilson(20, 20)
    assert high == 1.0
    assert round(low, 4) == 0.8389


def test_wilson_agrees_with_the_normal_interval_for_many_questions() -> None:
    """For n=1e6 and S=0.89 both are S +- 1.96 sqrt(S(1-S)/n) = +-0.000613."""
    low, high = wilson(890_000, 1_000_000)
    assert high - low == pytest.approx(2 * 0.000613, rel=1e-3)


@given(st.integers(1, 500), st.data())
def test_wilson_holds_the_share_and_stays_in_range(n: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, n))
    low, high = wilson(right, n)
    assert 0 <= low <= right / n <= high <= 1


def test_bootstrap_of_equal_documents_has_no_width() -> None:
    assert bootstrap_ratio([3.0, 3.0, 3.0], [2.0, 2.0, 2.0]) == (1.5, 1.5)


def test_bootstrap_is_as_wide_as_theory_says() -> None:
    """The mean of 100 values, half 0 and half 1: standard error 0.05, so +-0.098 at 95 %."""
    low, high = bootstrap_ratio([0.0, 1.0] * 50, [1.0] * 100, draws=4000)
    assert low == pytest.approx(0.402, abs=0.02)
    assert high == pytest.approx(0.598, abs=0.02)


def test_bootstrap_gives_the_same_interval_twice() -> None:
    bits, sizes = [1.0, 5.0, 2.0, 8.0], [3.0, 4.0, 5.0, 6.0]
    assert bootstrap_ratio(bits, sizes) == bootstrap_ratio(bits, sizes)


@pytest.mark.parametrize(("right", "n"), [(1, 0), (3, 2), (-1, 5)])
def test_an_impossible_count_is_refused(right: int, n: int) -> None:
    with pytest.raises(RequestError, match="interval"):
        wilson(right, n)


def test_a_score_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(FormatError, match="finite"):
        Score(name="x", value=float("nan"), low=0, high=1, n=1, unit="share", better="higher")


def test_a_share_says_itself_in_one_line() -> None:
    assert str(share("arithmetic", 19, 20)) == "arithmetic: 95.0% (76.4% to 99.1%, n=20)"
