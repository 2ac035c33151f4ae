"""Arguments against schemas: one sentence for the model, quoted values read, nothing crashes."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.errors import RequestError
from puna.tools.schema import check_arguments, read_quoted, require_schema

SONGS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "n": {"type": "integer", "minimum": 1},
        "genre": {"type": "string", "enum": ["rock", "jazz"]},
        "share": {"type": ["number", "null"]},
        "live": {"type": "boolean"},
        "years": {"type": "array", "items": {"type": "integer"}},
        "where": {"anyOf": [{"$ref": "#/$defs/place"}, {"type": "null"}]},
    },
    "required": ["n"],
    "additionalProperties": False,
    "$defs": {
        "place": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "zip": {"type": "integer"}},
            "required": ["city"],
        }
    },
}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"n": 3, "genre": "rock", "share": None, "where": {"city": "SF"}}, None),
        ({}, "a required argument is missing: 'n'."),
        ({"n": "ten"}, "argument 'n': \"ten\" given; an integer is expected."),
        ({"n": 1, "share": "x"}, "argument 'share': \"x\" given; a number or null is expected."),
        ({"n": 0}, "argument 'n': 0 is less than the minimum of 1."),
        ({"n": 1, "genre": "folk"}, "one of \"rock\", \"jazz\" is expected."),
        ({"n": 1, "gener": "rock"}, "there is no argument 'gener'"),
        ({"n": 1, "gener": "rock"}, "Did you mean 'genre'?"),
        ({"n": 1, "years": [1999, "x"]}, "argument 'years'[1]: \"x\" given"),
        ({"n": 1, "where": {"zip": 3}}, "a required argument is missing inside 'where': 'city'."),
        ({"n": 1, "where": {"city": 3}}, "argument 'where'.'city': 3 given; text is expected."),
    ],
)  # fmt: skip
def test_a_violation_names_the_argument_and_what_is_expected(
    arguments: dict[str, Any], sentence: str | None
) -> None:
    found = check_arguments(arguments, SONGS)
    assert found is None if sentence is None else sentence in (found or "")


@pytest.mark.parametrize(
    ("quoted", "read"),
    [
        ({"n": "10"}, {"n": 10}),  # as Meta's own example of a JSON call sends it
        ({"n": "-3"}, {"n": -3}),
        ({"n": "123456789012345678901"}, {"n": 123456789012345678901}),
        ({"share": "0.5"}, {"share": 0.5}),
        ({"share": "null"}, {"share": None}),
        ({"live": "true"}, {"live": True}),
        ({"years": '[1999, "2000"]'}, {"years": [1999, 2000]}),
        ({"years": ["1999", 2000]}, {"years": [1999, 2000]}),
        ({"where": {"city": "12", "zip": "94025"}}, {"where": {"city": "12", "zip": 94025}}),
    ],
)
def test_a_quoted_value_is_read_where_no_text_is_asked_for(
    quoted: dict[str, Any], read: dict[str, Any]
) -> None:
    assert read_quoted(quoted, SONGS) == read


@pytest.mark.parametrize("text", ["10.5", "010", "1_000", "ten", "", "NaN", "1e999", '"10"', "１"])
def test_what_cannot_be_read_without_loss_stays_as_it_is(text: str) -> None:
    assert read_quoted({"n": text}, SONGS) == {"n": text}
    assert check_arguments({"n": text}, SONGS) is not None


def test_text_stays_text_where_text_is_allowed() -> None:
    schema = {"properties": {"zip": {"type": ["integer", "string"]}, "any": {}}}
    arguments = {"zip": "010", "any": "10", "other": "3"}
    assert read_quoted(arguments, schema) == arguments


@given(st.integers())
def test_every_quoted_integer_is_read_exactly(number: int) -> None:
    assert read_quoted({"n": str(number)}, SONGS) == {"n": number}


def test_the_arguments_given_are_not_changed() -> None:
    arguments = {"n": "10", "years": ["1"]}
    read_quoted(arguments, SONGS)
    assert arguments == {"n": "10", "years": ["1"]}


def test_pythons_names_of_types_are_understood() -> None:
    """Meta's Llama 3.2 prompt format writes `"type": "dict"`."""
    schema = {"type": "dict", "properties": {"x": {"type": "float"}, "s": {"type": "str"}}}
    require_schema(schema, where="tool f")
    assert check_arguments({"x": 1.5, "s": "a"}, schema) is None
    assert check_arguments({"x": "a"}, schema) == "argument 'x': \"a\" given; a number is expected."
    assert read_quoted({"x": "1.5"}, schema) == {"x": 1.5}


BROKEN: list[Any] = [
    {"type": "nonsense"},
    {"properties": {"n": {"type": 3}}},
    {"properties": {"n": {"pattern": "("}}},
    {"properties": {"n": {"$ref": "#/nowhere"}}},
    {"properties": {"n": {"$ref": "http://127.0.0.1:9/schema.json"}}},
    {"properties": [{"n": {"type": "integer"}}]},
    {"$ref": "#"},
]
NO_SCHEMAS: list[Any] = [
    None,
    [],
    {"type": "string"},
    {"type": "nonsense"},
    {"properties": {"n": {"type": 3}}},
    {"properties": [{"n": {"type": "integer"}}]},
    {"properties": {"n": {"minimum": "one"}}},
]


@pytest.mark.parametrize("schema", BROKEN, ids=str)
def test_a_broken_schema_is_a_sentence_and_nothing_is_fetched(schema: Any) -> None:
    arguments = {"n": "10"}
    assert read_quoted(arguments, schema) == arguments
    assert check_arguments(arguments, schema)


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
))  # fmt: skip
@settings(max_examples=40)
def test_any_arguments_give_none_or_a_sentence(value: Any) -> None:
    for schema in (SONGS, *BROKEN[:-1]):  # the last one costs a deep recursion each time
        for arguments in ({"n": value}, {"years": [value]}, {"where": value, "n": 1}):
            found = check_arguments(read_quoted(arguments, schema), schema)
            assert found is None or found.endswith((".", "?"))


@pytest.mark.parametrize("schema", NO_SCHEMAS, ids=str)
def test_a_schema_that_checks_nothing_is_refused_when_the_tool_is_made(schema: Any) -> None:
    with pytest.raises(RequestError, match="tool f: its parameters"):
        require_schema(schema, where="tool f")
