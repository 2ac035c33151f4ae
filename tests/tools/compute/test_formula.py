"""Formulas as people write them, and what is no formula."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.errors import RequestError
from puna.tools.compute.formula import FUNCTIONS, Call, Name, Number, parse
from puna.tools.compute.symbolic import read, write_expression

FORMULAS = {
    "2x^2 + 3sin 2x": "2*x^2 + 3*sin(2*x)",
    "sin x cos x": "sin(x)*cos(x)",
    "sin^2 x": "sin(x)^2",
    "√2 π": "sqrt(2)*pi",
    "|x - 3| + |x|": "Abs(x) + Abs(x - 3)",
    "-2^2": "-4",
    "2^3^2": "512",
    "2^-1": "1/2",
    "1,234 * 2": "2468",
    "gcd(100,200)": "100",
    "0.1 + 0.2": "3/10",
    "1.5e3": "1500",
    "3x(x + 1)": "3*x*(x + 1)",
    "8/2(2+2)": "16",
    "17 mod 5": "2",
    "log(8, 2)": "3",
    "2e": "2*e",
    "sqrt(-4)": "2*i",
    "a_1 + b": "a_1 + b",
}


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_means_what_people_mean(text: str) -> None:
    assert write_expression(read(text)) == FORMULAS[text]


def test_a_formula_becomes_a_tree_of_names_and_numbers() -> None:
    two = Number(Fraction(2))
    assert parse("2x = 4") == Call("=", (Call("multiply", (two, Name("x"))), Number(Fraction(4))))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "(",
        "2 +",
        "x = = 2",
        "__import__('os').system('true')",
        "x.__class__",
        "lambda: 1",
        "[x for x in 1]",
        "f'{x}'",
        "'a' * 9",
        "(" * 500 + ")" * 500,
        "-" * 900 + "1",
        "2^" * 300 + "2",
        "sin " * 200 + "x",
        "sin^" * 200 + "x",
        "√" * 900 + "2",
        "9" * 900,
        "1 + " * 2000 + "1",
        "\ud800",
    ],
)
def test_what_is_no_formula_is_refused_or_only_numbers(text: str) -> None:
    try:
        tree = parse(text)
    except RequestError as error:
        assert len(str(error)) < 300
    else:
        assert text.startswith("-") and isinstance(tree, Number)


SIGNS = st.sampled_from(
    [*FUNCTIONS, *"0123456789xyzei()[]{}|,.+-*/^!%=<>√π°² \n\0\"'_", "sin", "1e9", "and", "degrees"]
)


@given(st.lists(SIGNS, max_size=25).map("".join) | st.text(max_size=40))
@settings(max_examples=600)
def test_any_text_is_a_formula_or_a_clear_error(text: str) -> None:
    try:
        parse(text)
    except RequestError as error:
        assert str(error).startswith("formula: ")
