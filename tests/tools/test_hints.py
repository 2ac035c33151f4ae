"""A hint read once gives the schema and the way back; both directions say the same type."""

import datetime
import enum
import typing
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, NotRequired, Optional, TypedDict, Union

import pytest

from puna.errors import RequestError
from puna.tools.hints import read_hint
from puna.tools.schema import check_arguments


class Unit(enum.Enum):
    CELSIUS = "celsius"
    FAHRENHEIT = "fahrenheit"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Place(TypedDict):
    city: Annotated[str, "the city's name"]
    zip: NotRequired[int]


@dataclass
class Trip:
    goal: Place
    days: int = 3
    when: datetime.date | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class Tree:
    branches: "list[Tree]"


Grams = NewType("Grams", float)

TEXT, WHOLE, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
PLACE = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "the city's name"}, "zip": WHOLE},
    "required": ["city"],
    "additionalProperties": False,
}
CASES: list[tuple[Any, dict[str, Any], Any, Any]] = [
    (str, TEXT, "a", "a"),
    (int, WHOLE, 10.0, 10),
    (float, NUMBER, 3, 3.0),
    (bool, {"type": "boolean"}, True, True),
    (None, {"type": "null"}, None, None),
    (Any, {}, [1, "a"], [1, "a"]),
    (Grams, NUMBER, 1, 1.0),
    (Annotated[int, "how many"], {**WHOLE, "description": "how many"}, 1, 1),
    (Optional[int], {"type": ["integer", "null"]}, None, None),  # noqa: UP045
    (Union[int, str], {"type": ["integer", "string"]}, "10", "10"),  # noqa: UP007
    (int | str, {"type": ["integer", "string"]}, 10, 10),
    (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}, "b", "b"),
    (Literal["a", 1], {"enum": ["a", 1]}, 1, 1),
    (Unit, {"type": "string", "enum": ["celsius", "fahrenheit"]}, "celsius", Unit.CELSIUS),
    (Level, {"type": "integer", "enum": [1, 2]}, 2, Level.HIGH),
    (list, {"type": "array"}, [1], [1]),
    (list[int], {"type": "array", "items": WHOLE}, [1, 2.0], [1, 2]),
    (Sequence[float], {"type": "array", "items": NUMBER}, [1], [1.0]),
    (Iterable[str], {"type": "array", "items": TEXT}, ["a"], ["a"]),
    (set[str], {"type": "array", "items": TEXT}, ["a", "a"], {"a"}),
    (tuple[int, ...], {"type": "array", "items": WHOLE}, [1, 2], (1, 2)),
    (
        tuple[int, str],
        {"type": "array", "prefixItems": [WHOLE, TEXT], "minItems": 2, "maxItems": 2},
        [1, "a"],
        (1, "a"),
    ),
    (dict, {"type": "object"}, {"a": 1}, {"a": 1}),
    (
        Mapping[str, float],
        {"type": "object", "additionalProperties": NUMBER},
        {"a": 1},
        {"a": 1.0},
    ),
    (datetime.date, {**TEXT, "format": "date"}, "2024-07-26", datetime.date(2024, 7, 26)),
    (
        datetime.datetime,
        {**TEXT, "format": "date-time"},
        "2024-07-26T10:30:00",
        datetime.datetime(2024, 7, 26, 10, 30),
    ),
    (datetime.time, {**TEXT, "format": "time"}, "10:30", datetime.time(10, 30)),
    (uuid.UUID, {**TEXT, "format": "uuid"}, "0" * 32, uuid.UUID(int=0)),
    (Path, TEXT, "a/b", Path("a/b")),
    (Decimal, NUMBER, 0.1, Decimal("0.1")),
    (
        datetime.date | str,
        {"anyOf": [{**TEXT, "format": "date"}, TEXT]},
        "tomorrow",
        "tomorrow",
    ),
    (Place, PLACE, {"city": "SF", "zip": 1.0}, {"city": "SF", "zip": 1}),
    (
        Trip,
        {
            "type": "object",
            "properties": {
                "goal": PLACE,
                "days": {**WHOLE, "default": 3},
                "when": {"anyOf": [{**TEXT, "format": "date"}, {"type": "null"}]},
                "notes": {"type": "array", "items": TEXT},
            },
            "required": ["goal"],
            "additionalProperties": False,
        },
        {"goal": {"city": "SF"}, "when": "2024-07-26"},
        Trip(goal={"city": "SF"}, when=datetime.date(2024, 7, 26)),
    ),
]


@pytest.mark.parametrize(("hint", "schema", "value", "converted"), CASES, ids=lambda c: str(c)[:40])
def test_a_hint_becomes_a_schema_and_its_values_come_back(
    hint: Any, schema: dict[str, Any], value: Any, converted: Any
) -> None:
    reading = read_hint(hint, where="f")
    assert reading.schema == schema
    assert check_arguments({"x": value}, {"properties": {"x": schema}}) is None
    found = reading.convert(value)
    assert found == converted
    assert type(found) is type(converted)


def test_a_hint_may_be_a_documented_type() -> None:
    from typing_extensions import Doc

    assert read_hint(Annotated[str, Doc("a\n  city")], where="f").schema["description"] == "a city"


def test_a_pydantic_model_is_taken_as_it_is() -> None:
    from pydantic import BaseModel

    class Song(BaseModel):
        title: str
        year: int = 1999

    reading = read_hint(Song, where="f")
    assert reading.schema["required"] == ["title"]
    assert reading.convert({"title": "a"}) == Song(title="a")


def test_a_type_statement_is_what_it_stands_for() -> None:
    from typing_extensions import TypeAliasType

    assert read_hint(TypeAliasType("Names", list[str]), where="f").schema["items"] == TEXT


@pytest.mark.parametrize(
    ("hint", "why"),
    [
        (bytes, "JSON has no value of type bytes"),
        (dict[int, str], "JSON's keys are text"),
        (complex, "complex"),
        (typing.Callable[[int], str], "Callable"),
        (Tree, "holds itself"),
    ],
)
def test_what_json_cannot_say_is_refused_by_name(hint: Any, why: str) -> None:
    with pytest.raises(RequestError, match=rf"tool f, argument 'x'.*{why}"):
        read_hint(hint, where="tool f, argument 'x'")
