import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.errors import PunaError
from puna.tools.calculator import CALCULATOR, calculate, evaluate, write


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("12 * 34", "408"),
        ("2 + 3 * 4", "14"),
        ("(2 + 3) * 4", "20"),
        ("10 - 4 - 3", "3"),
        ("2 ** 3 ** 2", "512"),
        ("-2 ** 2", "-4"),
        ("2 ** -1", "0.5"),
        ("(-1) ** 1000000000001", "-1"),
        ("0 ** 0", "1"),
        ("--5", "5"),
        ("7 / 2", "3.5"),
        ("6 / 3", "2"),
        ("1 / 3", "0.333333333333"),
        ("2 / 3", "0.666666666667"),
        ("-1 / 3", "-0.333333333333"),
        ("1 / 3 * 3", "1"),
        ("1 / 3000000000000000", "0.000000000000000333333333333"),
        ("0.1 + 0.2", "0.3"),
        (".5 * 4", "2"),
        ("1 / 1024", "0.0009765625"),
        ("7 // 2", "3"),
        ("-7 // 2", "-4"),
        ("-7 % 3", "2"),
        ("7.5 % 2", "1.5"),
        ("1,234,567.25 + 0.75", "1234568"),
        ("3 × 4 ÷ 2 − 1", "5"),
        ("2^10", "1024"),
        (" 8\n", "8"),
        ("123456789012345678901234567890 * 10", "1234567890123456789012345678900"),
    ],
)
def test_arithmetic_is_exact(text: str, result: str) -> None:
    assert calculate(text) == result


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "a number is expected, not the end"),
        ("2 +", "a number is expected, not the end"),
        ("2 3", "'3' is not expected there"),
        ("(2", "not closed"),
        ("2)", "')' is not expected"),
        ("* 2", "a number is expected, not '*'"),
        ("1,23", "',23' is not arithmetic"),
        ("12,345,67", "not arithmetic"),
        ("x + 1", "'x + 1' is not arithmetic"),
        ("__import__('os')", "not arithmetic"),
        ("٣ + 1", "not arithmetic"),
        ("1 / 0", "division by zero"),
        ("5 % (2 - 2)", "division by zero"),
        ("0 ** -1", "division by zero"),
        ("2 ** 0.5", "whole number"),
    ],
)
def test_what_is_wrong_comes_back_as_text(text: str, complaint: str) -> None:
    assert calculate(text).startswith("error: calculator: ")
    assert complaint in calculate(text)
    with pytest.raises(PunaError):
        evaluate(text)


@pytest.mark.parametrize(
    "text",
    [
        "9 ** 9 ** 9 ** 9",
        "10 ** 100000",
        "(1 / 3) ** 100000",
        "2 ** -(10 ** 30)",
        "1" * 2000,
        "*".join(["9" * 300] * 3 + ["9" * 90]) + " ** 9",
        "(" * 400 + "1" + ")" * 400,
        "-" * 900 + "1",
        "2" + " ** 1" * 190,
        "1/7" + "+1/7" * 240,
        "1/" + "7**700/" * 5 + "3",
    ],
)
def test_hostile_text_ends_at_once(text: str) -> None:
    begin = time.perf_counter()
    assert len(calculate(text)) < 5000
    assert time.perf_counter() - begin < 1


numbers = st.integers(0, 10**20).map(str) | st.decimals(0, 1000, places=3).map(str)
expressions = st.recursive(
    numbers,
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*"]), inner),
    max_leaves=8,
)


@given(expressions)
def test_results_equal_python_on_fractions(text: str) -> None:
    import re

    exact = eval(re.sub(r"[\d.]+", lambda m: f"Fraction('{m.group()}')", text))
    assert evaluate(text) == exact
    assert Fraction(calculate(text)) == exact


@given(st.fractions())
def test_a_written_number_is_near_its_value(value: Fraction) -> None:
    assert abs(Fraction(write(value)) - value) <= Fraction(1, 2 * 10**12)


@given(st.text(max_size=50) | st.text("0123456789.,+-*/%^() ", max_size=50))
def test_any_text_gives_a_text(text: str) -> None:
    assert calculate(text)


def test_the_tool_wants_one_query() -> None:
    assert CALCULATOR.call({"query": "12 * 34"}) == "408"
    assert CALCULATOR.call({"expression": "1"}).startswith("error:")
    assert CALCULATOR.call({"query": "1", "unit": "m"}).startswith("error:")
    assert CALCULATOR.declaration == "calculator"
