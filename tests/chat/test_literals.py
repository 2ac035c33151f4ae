"""Values as models write them: JSON, Python, and mixtures, at any depth and of any length."""

import ast
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.chat.literals import NoValueError, value_of, write_json
from tests.chat.dialogs import values


@given(values)
def test_json_and_python_are_both_read(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, indent=2), write_json(value)):
        assert value_of(text) == json.loads(text)
    assert value_of(f" {write_json(value)}\n") == value


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), max_size=8).filter(
            str.isprintable
        ),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text("ab'\" é", max_size=4), inner, max_size=3)
        ),
    )
)
def test_what_python_writes_is_read_as_python_reads_it(value: Any) -> None:
    assert value_of(repr(value)) == ast.literal_eval(repr(value))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1, 2,]", [1, 2]),
        ("{'a': True, \"b\": null,}", {"a": True, "b": None}),
        ("[.5, 5., -0.5e3, +1]", [0.5, 5.0, -500.0, 1]),
        ('"line\nbreak"', "line\nbreak"),
        (r'"\q\u00e9\ud83d\ude42\ud800\u12"', "\\qé🙂\ufffd\\u12"),
        (r"'it\'s \"it\"'", 'it\'s "it"'),
    ],
)
def test_what_models_write_and_json_forbids_is_read(text: str, value: Any) -> None:
    assert value_of(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "", "NaN", "Infinity", "1e999", "-", ".", "1.2.3", "1_000", "0x10", "9" * 4001, "truely",
        "{1: 2}", "{'a'}", "{'a': 1 'b': 2}", "[,]", "[1 2]", "[1", '"a', '"a\\', "(1, 2)", "a",
        "f(1)", "1 2", "__import__('os')", "[i for i in 'a']", "{'a': 1}}",
    ],
)  # fmt: skip
def test_anything_else_is_no_value(text: str) -> None:
    with pytest.raises(NoValueError):
        value_of(text)


def test_values_are_read_and_written_at_any_depth() -> None:
    text = '[{"é": [], "b": ' * 20_000 + '"\\n"' + "}]" * 20_000
    assert write_json(value_of(text)) == text


def test_no_number_is_infinite_and_the_longest_integer_is_exact() -> None:
    assert value_of("9" * 4000) == 10**4000 - 1
    assert math.isfinite(value_of("1e308"))
