"""Type hints as JSON Schema, and JSON values back as the hinted types.

One reading of a hint gives both directions, so that a tool can never be shown one type and be
called with another. The schemas are written out in place, without titles and references: a small
model reads them as text.
"""

import dataclasses
import datetime
import decimal
import enum
import inspect
import pathlib
import types
import typing
import uuid
from collections import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from puna.errors import RequestError
from puna.tools.schema import check_arguments

Convert = Callable[[Any], Any]


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A type as a JSON Schema, and the function from a value of that schema to the type."""

    schema: dict[str, Any]
    convert: Convert = _same


_PLAIN: Mapping[Any, Reading] = {
    str: Reading(schema={"type": "string"}),
    int: Reading(schema={"type": "integer"}, convert=int),  # JSON's 10.0 is an integer too
    float: Reading(schema={"type": "number"}, convert=float),
    bool: Reading(schema={"type": "boolean"}),
    None: Reading(schema={"type": "null"}),
    types.NoneType: Reading(schema={"type": "null"}),
    Any: Reading(schema={}),
    object: Reading(schema={}),
    inspect.Parameter.empty: Reading(schema={}),
    list: Reading(schema={"type": "array"}),
    tuple: Reading(schema={"type": "array"}, convert=tuple),
    set: Reading(schema={"type": "array"}, convert=set),
    frozenset: Reading(schema={"type": "array"}, convert=frozenset),
    dict: Reading(schema={"type": "object"}),
}

# Types that JSON writes as text: the schema's format, and how the text is read.
_TEXTS: Mapping[Any, tuple[str | None, Convert]] = {
    datetime.datetime: ("date-time", datetime.datetime.fromisoformat),
    datetime.date: ("date", datetime.date.fromisoformat),
    datetime.time: ("time", datetime.time.fromisoformat),
    uuid.UUID: ("uuid", uuid.UUID),
    pathlib.Path: (None, pathlib.Path),
}

_LISTS: Mapping[Any, Convert] = {
    list: list, abc.Sequence: list, abc.Iterable: list, abc.Collection: list,
    set: set, abc.Set: set, frozenset: frozenset, tuple: tuple,
}  # fmt: skip


def read_hint(hint: Any, *, where: str) -> Reading:
    """Return what a type hint means.

    Args:
        where: the function and the argument, for the error.
    Raises:
        RequestError: JSON has no value for this type.
    """
    return _read(hint, where, ())


def _read(hint: Any, where: str, above: tuple[Any, ...]) -> Reading:
    """Read a hint; `above` are the classes it stands in."""
    origin, args = get_origin(hint), get_args(hint)
    if hint in above:
        raise RequestError(
            f"{where}: {_name(hint)} holds itself; a type with an end is expected. "
            "Use dict, or give the schema with puna.tool(parameters=...)."
        )
    if origin is typing.Annotated:
        return _annotated(_read(args[0], where, above), args[1:])
    if origin in (typing.Required, typing.NotRequired, typing.Final, typing.ClassVar):
        return _read(args[0], where, above)
    if origin is Literal:
        return _choice({value: value for value in args})
    if origin in (Union, types.UnionType):
        return _union([_read(arg, where, above) for arg in args])
    if (alias := getattr(hint, "__supertype__", None) or _alias(hint)) is not None:  # NewType
        return _read(alias, where, above)
    if origin is tuple and args[-1:] != (...,):
        return _fixed([_read(arg, where, above) for arg in args if arg != ()])
    if origin in _LISTS:
        return _list(_read(args[0], where, above), _LISTS[origin])
    if origin in (dict, abc.Mapping, abc.MutableMapping):
        if args[0] is not str:
            raise RequestError(f"{where}: {hint} given; JSON's keys are text: dict[str, ...].")
        return _mapping(_read(args[1], where, above))
    if not _is_hashable(hint):
        raise _unknown(hint, where)
    if hint in _PLAIN:
        return _PLAIN[hint]
    if hint is decimal.Decimal:
        return Reading(schema={"type": "number"}, convert=lambda value: decimal.Decimal(str(value)))
    if hint in _TEXTS:
        form, convert = _TEXTS[hint]
        return Reading(schema={"type": "string"} | ({"format": form} if form else {}),
                       convert=_text(convert, form))  # fmt: skip
    if isinstance(hint, type):
        return _class(hint, where, (*above, hint))
    raise _unknown(hint, where)


def _class(hint: type, where: str, above: tuple[Any, ...]) -> Reading:
    """Read a class that names its own fields or values."""
    if issubclass(hint, enum.Enum):
        return _choice({member.value: member for member in hint})
    if typing.is_typeddict(hint):
        hints = typing.get_type_hints(hint, include_extras=True)
        fields = {name: _read(kind, f"{where}.{name}", above) for name, kind in hints.items()}
        return _record(fields, getattr(hint, "__required_keys__", ()), dict)
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint, include_extras=True)
        given = [field for field in dataclasses.fields(hint) if field.init]
        fields = {
            field.name: _with_default(
                _read(hints[field.name], f"{where}.{field.name}", above), field.default
            )
            for field in given
        }
        required = [
            field.name
            for field in given
            if field.default is dataclasses.MISSING is field.default_factory
        ]
        return _record(fields, required, lambda values: hint(**values))
    if hasattr(hint, "model_json_schema") and hasattr(hint, "model_validate"):  # pydantic's models
        return Reading(schema=hint.model_json_schema(), convert=hint.model_validate)
    raise _unknown(hint, where)


def _with_default(reading: Reading, default: Any) -> Reading:
    """Show a default where JSON can say it."""
    if default is None or not isinstance(default, str | int | float | bool):
        return reading
    value = default.value if isinstance(default, enum.Enum) else default
    return dataclasses.replace(reading, schema={**reading.schema, "default": value})


def _annotated(reading: Reading, notes: Sequence[Any]) -> Reading:
    """Take the description: the first text, or `typing_extensions.Doc`."""
    for note in notes:
        text = getattr(note, "documentation", note)
        if isinstance(text, str):
            schema = {**reading.schema, "description": " ".join(text.split())}
            return dataclasses.replace(reading, schema=schema)
    return reading


def _choice(values: Mapping[Any, Any]) -> Reading:
    """One of several values; the keys are what JSON says for them."""
    kinds = {_PLAIN[type(key)].schema["type"] for key in values if type(key) in _PLAIN}
    schema: dict[str, Any] = {"enum": list(values)}
    if len(kinds) == 1:
        schema = {"type": kinds.pop(), **schema}
    return Reading(schema=schema, convert=lambda value: values[value])


def _union(parts: Sequence[Reading]) -> Reading:
    """Any of several types; a value is taken as the first type that it fits."""

    def convert(value: Any) -> Any:
        problem = ValueError(f"{value!r} fits none of the types")
        for part in parts:
            if check_arguments({"value": value}, {"properties": {"value": part.schema}}) is None:
                try:
                    return part.convert(value)
                except ValueError as error:  # text that is no date may still be text
                    problem = error
        raise problem

    schemas = [part.schema for part in parts]
    if {} in schemas:
        return Reading(schema={}, convert=convert)
    if all(schema.keys() == {"type"} for schema in schemas):  # integer or null, in one word
        return Reading(schema={"type": [s["type"] for s in schemas]}, convert=convert)
    return Reading(schema={"anyOf": schemas}, convert=convert)


def _list(item: Reading, make: Convert) -> Reading:
    schema: dict[str, Any] = {"type": "array"}
    if item.schema:
        schema["items"] = item.schema
    return Reading(schema=schema, convert=lambda values: make(item.convert(v) for v in values))


def _fixed(items: Sequence[Reading]) -> Reading:
    """A tuple with a type for each place."""
    schema = {
        "type": "array",
        "prefixItems": [item.schema for item in items],
        "minItems": len(items),
        "maxItems": len(items),
    }
    return Reading(
        schema=schema,
        convert=lambda values: tuple(i.convert(v) for i, v in zip(items, values, strict=True)),
    )


def _mapping(item: Reading) -> Reading:
    schema: dict[str, Any] = {"type": "object"}
    if item.schema:
        schema["additionalProperties"] = item.schema
    return Reading(
        schema=schema, convert=lambda values: {k: item.convert(v) for k, v in values.items()}
    )


def _record(fields: Mapping[str, Reading], required: abc.Collection[str], make: Convert) -> Reading:
    """An object with named fields; others are refused."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: field.schema for name, field in fields.items()},
    }
    if must := [name for name in fields if name in required]:
        schema["required"] = must
    schema["additionalProperties"] = False
    return Reading(
        schema=schema,
        convert=lambda values: make({k: fields[k].convert(v) for k, v in values.items()}),
    )


def _text(read: Convert, form: str | None) -> Convert:
    def convert(value: Any) -> Any:
        try:
            return read(value)
        except ValueError:
            raise ValueError(f"{value!r} given; text of the form {form} is expected") from None

    return convert


def _alias(hint: Any) -> Any:
    """Return what an alias of the `type` statement stands for."""
    return hint.__value__ if type(hint).__name__ == "TypeAliasType" else None


def _is_hashable(hint: Any) -> bool:
    return isinstance(hint, abc.Hashable)


def _name(hint: Any) -> str:
    return getattr(hint, "__name__", None) or str(hint)


def _unknown(hint: Any, where: str) -> RequestError:
    return RequestError(
        f"{where}: JSON has no value of type {_name(hint)}; text, numbers, lists, dict, Literal, "
        "Enum, TypedDict or a dataclass are expected. Convert it inside the function."
    )
