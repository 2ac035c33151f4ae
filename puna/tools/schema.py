"""Arguments against a JSON Schema: what does not fit comes back as one sentence for the model.

The check itself is the library `jsonschema`; nothing is ever fetched, so a reference that leads out
of the schema is an error. Models of this family often quote numbers (Meta's own example of a JSON
call sends `"n": "10"`), so a quoted value is read where the schema asks for no text.
"""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from puna.errors import RequestError
from puna.tools.tool import Schema

# The names that Meta's Llama 3.2 prompt format and other Python-minded schemas use for types.
PYTHON_TYPES: Mapping[str, str] = {
    "dict": "object", "list": "array", "tuple": "array", "str": "string",
    "int": "integer", "float": "number", "bool": "boolean",
}  # fmt: skip

_LONGEST = 80  # characters of a wrong value that the sentence repeats


def check_arguments(arguments: Mapping[str, Any], schema: Schema) -> str | None:
    """Return None where the arguments fit, else one sentence: which argument, what is expected."""
    from jsonschema.exceptions import best_match

    try:
        error = best_match(_validator(schema).iter_errors(dict(arguments)))
    except RecursionError:
        return "the arguments are nested too deeply; simple values are expected."
    except _broken() as problem:
        return f"the tool's own schema is broken ({_line(problem)}); it cannot be called."
    return None if error is None else _sentence(error)


def read_quoted(arguments: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """Return the arguments with quoted values read where the schema refuses the text itself.

    `"10"` becomes 10 where an integer is asked for, `"true"` becomes true, `"[1, 2]"` a list. A
    text is read as JSON and taken only where the schema accepts what it says, so nothing is lost:
    `"10.5"` for an integer, `"010"` and `"ten"` stay as they are, and are errors.
    """
    given = dict(arguments)
    unreadable: tuple[type[Exception], ...] = (RecursionError, *_broken())
    try:
        read = _read(given, schema, _validator(schema))
    except unreadable:
        return given  # `check_arguments` says what is wrong
    return read if isinstance(read, dict) else given


def require_schema(schema: Any, *, where: str) -> None:
    """Refuse a schema that no arguments could be checked against.

    Raises:
        RequestError: it is no JSON Schema of an object.
    """
    from jsonschema.exceptions import SchemaError

    if not isinstance(schema, Mapping) or schema.get("type", "object") not in ("object", "dict"):
        raise RequestError(
            f"{where}: its parameters are {_shown(schema)}; a JSON Schema of type object is "
            "expected."
        )
    validator = _validator(schema)
    try:
        plain = json.loads(json.dumps(schema), object_hook=_without_python_types)
        type(validator).check_schema(plain)
    except (SchemaError, TypeError, ValueError) as error:
        raise RequestError(
            f"{where}: its parameters are no JSON Schema ({_line(error)}); "
            '{"type": "object", "properties": {...}} is expected.'
        ) from None


def _read(value: Any, schema: Any, validator: Any) -> Any:
    """Read what is quoted in a value that does not fit as it stands; the rest stays."""
    schema = _followed(schema, validator.schema)
    if not isinstance(schema, Mapping) or validator.evolve(schema=schema).is_valid(value):
        return value
    inside = _read_inside(value, schema, validator)
    readings = [inside] if inside is not value else []
    for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        readings.append(_read(value, branch, validator))
    if isinstance(value, str):
        try:
            meant = json.loads(value, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return value
        if isinstance(meant, str) or meant in (float("inf"), float("-inf")):
            return value
        read = _read(meant, schema, validator)
        readings.append(read)
        if "type" in schema and validator.evolve(schema={"type": schema["type"]}).is_valid(read):
            inside = read  # the right type and still wrong: the sentence tells of the number
    fitting = (r for r in readings if validator.evolve(schema=schema).is_valid(r))
    return next(fitting, inside)


def _read_inside(value: Any, schema: Schema, validator: Any) -> Any:
    """Read the parts of an object or a list, each by its own schema."""
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        return {key: _read(item, known.get(key, others), validator) for key, item in value.items()}
    if isinstance(value, list):
        first, others = schema.get("prefixItems", []), schema.get("items", True)
        return [
            _read(item, first[place] if place < len(first) else others, validator)
            for place, item in enumerate(value)
        ]
    return value


def _followed(schema: Any, root: Any) -> Any:
    """Follow a reference to another place of the same schema: `#/$defs/Place`."""
    target = schema.get("$ref") if isinstance(schema, Mapping) else None
    if not isinstance(target, str) or not target.startswith("#/"):
        return schema
    for part in target.removeprefix("#/").split("/"):
        root = root[part]
    return root


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _validator(schema: Schema) -> Any:
    """Return the validator for the schema's own draft, with Python's names of the types."""
    from jsonschema.validators import validator_for
    from referencing import Registry

    draft = validator_for(schema, default=_default_draft())
    return draft(schema, registry=Registry())  # an empty registry: nothing is fetched


@cache
def _default_draft() -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    checker = Draft202012Validator.TYPE_CHECKER
    for name, standard in PYTHON_TYPES.items():
        checker = checker.redefine(
            name, lambda checker, value, standard=standard: checker.is_type(value, standard)
        )
    return extend(Draft202012Validator, type_checker=checker)


def _without_python_types(schema: dict[str, Any]) -> dict[str, Any]:
    """Spell the types of one level as the standard does, for the check of the schema itself."""
    kind = schema.get("type")
    standard = PYTHON_TYPES.get(kind) if isinstance(kind, str) else None
    return {**schema, "type": standard} if standard else schema


def _broken() -> tuple[type[Exception], ...]:
    """Return what the library raises where the schema, not the value, is wrong."""
    from jsonschema.exceptions import SchemaError, UndefinedTypeCheck, UnknownType
    from referencing.exceptions import Unresolvable

    # A keyword of a wrong kind ("properties": []) fails inside the library as a Python error.
    wrong_kind = (AttributeError, KeyError, TypeError, ValueError, ArithmeticError)
    return (SchemaError, UnknownType, UndefinedTypeCheck, Unresolvable, re.error, *wrong_kind)


def _sentence(error: Any) -> str:
    """Say one violation as `{which argument}: {given}; {expected}.`"""
    path = _path(error.absolute_path)
    value, wanted = error.instance, error.validator_value
    inside = f" inside {path}" if path else ""
    match error.validator:
        case "required":
            missing = ", ".join(repr(name) for name in wanted if name not in value)
            return f"a required argument is missing{inside}: {missing}."
        case "additionalProperties" if wanted is False:
            return unknown_argument(value, error.schema.get("properties", {}), inside=inside)
        case "type":
            expected = " or ".join(_kind(name) for name in _listed(wanted))
        case "enum" | "const":
            allowed = wanted if error.validator == "enum" else [wanted]
            listed = ", ".join(_shown(item) for item in allowed)
            expected = listed if len(allowed) == 1 else f"one of {listed}"
        case "anyOf" | "oneOf":
            kinds = [_kind(name) for part in wanted for name in _listed(part.get("type", "value"))]
            expected = " or ".join(dict.fromkeys(kinds))
        case _:
            where = f"argument {path}" if path else "the arguments"
            return f"{where}: {_line(error.message)}."
    where = f"argument {path}" if path else "the arguments"
    return f"{where}: {_shown(value)} given; {expected} is expected."


def unknown_argument(given: Mapping[str, Any], known: Sequence[str] | Schema, inside: str) -> str:
    """Say which argument a tool does not have, with the nearest that it has."""
    name = next(name for name in given if name not in known)
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(map(repr, known)) or "none"
    return f"there is no argument {name!r}{inside}; the arguments are: {listed}.{hint}"


def _path(parts: Sequence[str | int]) -> str:
    """Write the place of a value: `'days'[2]`."""
    return "".join(f"[{p}]" if isinstance(p, int) else f"{'.' * bool(i)}'{p}'"
                   for i, p in enumerate(parts))  # fmt: skip


def _kind(name: str) -> str:
    standard = PYTHON_TYPES.get(name, name)
    words = {"string": "text", "boolean": "true or false", "null": "null", "value": "another value"}
    article = "an" if standard[0] in "aeiou" else "a"
    return words.get(standard, f"{article} {standard}")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _line(problem: object) -> str:
    lines = str(problem).strip().splitlines()
    return (lines[0] if lines else type(problem).__name__).rstrip(".")[:200]
