"""Functions as tools: hints and docstring become the declaration, arguments and results fit."""

import asyncio
import datetime
import enum
import functools
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pytest

import puna
from puna.errors import RequestError
from puna.tools.calculator import CALCULATOR
from puna.tools.function import as_tool, from_schema, tool
from puna.tools.results import as_text
from puna.tools.tool import Tool


def call(made: Tool, **arguments: Any) -> str:
    assert made.call is not None
    return made.call(arguments)


@tool
def weather(
    city: str,
    unit: Literal["celsius", "fahrenheit"] = "celsius",
    days: Annotated[int, "how many days"] = 1,
    *,
    since: datetime.date | None = None,
) -> dict[str, Any]:
    """Tell the weather.

    It looks
    out of the window.

    Args:
        city: the city, with its
            country
        days: not this text

    Returns:
        what it sees
    """
    return {"city": city, "unit": unit, "days": days, "since": since}


def test_a_declaration_comes_from_hints_and_docstring() -> None:
    assert weather.declaration == {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Tell the weather. It looks out of the window.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "the city, with its country"},
                    "unit": {
                        "type": "string",
                        "enum": ["celsius", "fahrenheit"],
                        "default": "celsius",
                    },
                    "days": {"type": "integer", "description": "how many days", "default": 1},
                    "since": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
                },
                "required": ["city"],
            },
        },
    }


@pytest.mark.parametrize(
    ("doc", "description", "told"),
    [
        ("Do it.", "Do it.", None),
        ("Do it:\n  so.", "Do it: so.", None),
        ("Do it.\n\n:param x: how often\n:returns: nothing", "Do it.", "how often"),
        ("Do it.\n\nParameters\n----------\nx : int\n    how often", "Do it.", "how often"),
        ("Do it.\n\nArgs:\n    x (int): how: often\n    y: gone", "Do it.", "how: often"),
        (":        :param:\n\n", ": :param:", None),
        (None, "", None),
    ],
)
def test_docstrings_of_every_style_are_read(
    doc: str | None, description: str, told: str | None
) -> None:
    def f(x: int) -> None: ...

    f.__doc__ = doc
    made = as_tool(f)
    assert made.description == description
    assert made.parameters["properties"]["x"].get("description") == told


def test_the_declaration_fits_every_dialect() -> None:
    from tests.chat.dialogs import BYTES

    for dialect in ("meta", "hf"):
        prompt = puna.ChatFormat(BYTES, dialect).render(
            [{"role": "user", "content": "Hi"}], [weather.declaration]
        )
        assert "with its country" in BYTES.decode(prompt.ids)


def test_a_tool_stays_callable_as_the_function_it_was() -> None:
    assert weather("Rome", days=2)["days"] == 2
    assert CALCULATOR(query="6 * 7") == "42"
    with pytest.raises(RequestError, match="declared and has no function"):
        as_tool("brave_search")(query="x")


def test_arguments_arrive_as_the_hinted_types() -> None:
    assert call(weather, city="Rome", days=2.0, since="2024-07-26") == json.dumps(
        {"city": "Rome", "unit": "celsius", "days": 2, "since": "2024-07-26"}
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"city": "Rome", "day": 1}, "weather: there is no argument 'day'.*Did you mean 'days'"),
        ({"city": "Rome", "since": "today"}, "argument 'since': 'today' given; text of the form"),
        ({}, "missing a required argument: 'city'"),
    ],
)
def test_what_does_not_fit_the_function_is_a_sentence(arguments: Any, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        call(weather, **arguments)


def test_plain_functions_methods_partials_and_objects_are_tools() -> None:
    class Shop:
        factor = 3

        def price(self, count: int) -> int:
            """What it costs."""
            return self.factor * count

        def __call__(self, count: int) -> int:
            return count

    def add(a: int, /, b: int, **more: int) -> int:
        return a + b + sum(more.values())

    assert call(as_tool(Shop().price), count=2) == "6"
    assert as_tool(Shop().price).description == "What it costs."
    assert call(as_tool(functools.partial(add, b=2)), a=1, c=4) == "7"
    assert call(as_tool(add), b=1, a=2) == "3"
    assert as_tool(add).parameters["additionalProperties"] == {"type": "integer"}
    assert call(as_tool(tool(name="shop")(Shop())), count=4) == "4"


def test_a_function_without_hints_takes_what_comes() -> None:
    def anything(x, y=2):  # type: ignore[no-untyped-def]
        return [x, y]

    made = as_tool(anything)
    assert made.parameters == {
        "type": "object",
        "properties": {"x": {}, "y": {"default": 2}},
        "required": ["x"],
    }
    assert call(made, x={"a": None}) == '[{"a": null}, 2]'


def test_a_default_that_json_cannot_say_is_left_out() -> None:
    def f(x: Any = object, when: datetime.date = datetime.date(2024, 7, 26)) -> None: ...

    properties = as_tool(f).parameters["properties"]
    assert properties["when"]["default"] == "2024-07-26"
    assert call(as_tool(f)) == "null"


def test_an_async_function_is_awaited() -> None:
    async def slow(n: int) -> int:
        await asyncio.sleep(0)
        return n + 1

    assert call(as_tool(slow), n=1) == "2"


def test_options_of_the_decorator() -> None:
    @puna.tool(name="wipe_disk", description="Erases.", needs_consent=True, timeout=3)
    def wipe() -> str:
        """Something else."""
        return "wiped"

    assert (wipe.name, wipe.description) == ("wipe_disk", "Erases.")
    assert (wipe.needs_consent, wipe.timeout) == (True, 3)
    assert wipe() == call(wipe) == "wiped"


def test_a_schema_of_ones_own_leaves_the_arguments_alone() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "number"}}}

    @tool(parameters=schema)
    def f(**given: Any) -> Any:
        return given

    assert f.parameters == schema
    assert call(f, n=1) == '{"n": 1}'


def test_a_lambda_needs_a_name() -> None:
    with pytest.raises(RequestError, match="not a name that a model can call"):
        tool(lambda x: x)
    assert tool(name="f")(lambda x: x).name == "f"


def test_signatures_without_a_place_in_json_are_refused() -> None:
    def many(*numbers: int) -> None: ...

    def method(self, x: int) -> None: ...  # type: ignore[no-untyped-def]

    def unknown(x: "Nowhere") -> None: ...  # type: ignore[name-defined]

    for function, why in ((many, r"\*numbers"), (method, "a method"), (unknown, "Nowhere")):
        with pytest.raises(RequestError, match=why):
            tool(function)
    with pytest.raises(RequestError, match="int is no tool"):
        as_tool(3)


SONGS = {
    "type": "function",
    "function": {
        "name": "songs",
        "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}},
        "strict": True,
    },
}


def test_a_schema_with_a_handler_runs_and_without_one_is_a_declaration() -> None:
    made = from_schema(SONGS, lambda n: ["song"] * n)
    assert call(made, n=2) == '["song", "song"]'
    declared = as_tool(SONGS)
    assert declared.call is None
    assert made.declaration == declared.declaration == SONGS


@pytest.mark.parametrize("wrong", [{}, {"type": "function"}, {"type": "function", "function": {}}])
def test_a_dictionary_that_describes_no_function_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="no tool"):
        as_tool(wrong)
    broken = {"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}
    with pytest.raises(RequestError, match="tool f: its parameters"):
        from_schema(broken, print)


class Colour(enum.StrEnum):
    RED = "red"


@dataclass
class Point:
    x: int
    colour: Colour


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        ("", ""),
        (None, "null"),
        (408, "408"),
        ({"é": [1, None]}, '{"é": [1, null]}'),
        (Point(1, Colour.RED), '{"x": 1, "colour": "red"}'),
        (datetime.date(2024, 7, 26), '"2024-07-26"'),
        ({"b", "a"}, '["a", "b"]'),
        (b"\xff", '"\ufffd"'),
        (np.arange(3), "[0, 1, 2]"),
        (np.float32(0.5), "0.5"),
        (range(3), '"range(0, 3)"'),
    ],
)
def test_results_are_text_as_it_is_or_json(value: Any, text: str) -> None:
    assert as_text(value) == text
