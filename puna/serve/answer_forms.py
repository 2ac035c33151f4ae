"""What an answer must look like: `response_format` and `tool_choice` become one constraint.

Both may stand in one request: then the answer is JSON of the schema or a call of a tool. Calls have
the form of Llama 3.1, `{"name": ..., "parameters": ...}`, which the parser reads in every dialect.
Source: Meta, prompt formats of Llama 3.1, "JSON based tool calling".
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from puna.infer.constraints import Constraint
from puna.serve.bodies.chat import (
    JsonObject,
    PatternFormat,
    ResponseFormat,
    SchemaFormat,
    TextFormat,
)
from puna.serve.failures import Failure

# Between the parts of JSON: enough to indent it, not enough to write spaces for ever.
_SPACE = {"x-guidance": {"whitespace_pattern": "[ \\n\\t]{0,12}"}}
_MOST_CALLS = 8  # of one answer that must call

Functions = Sequence[Mapping[str, Any]]  # name and parameters


def constraint_of(
    wanted: ResponseFormat | None, functions: Functions, *, must_call: bool, is_parallel: bool
) -> Constraint | None:
    """Return what the answer must look like, or None where anything goes."""
    if must_call:
        call = _json_rule("call", _any_call(functions))
        more = f' (";" " "? call){{0,{_MOST_CALLS - 1}}}' if is_parallel else ""
        return Constraint(kind="lark", text=f"start: call{more}\n{call}")
    if wanted is None or isinstance(wanted, TextFormat):
        return None
    if isinstance(wanted, PatternFormat):
        kind = "regex" if wanted.type == "regex" else "lark"
        return Constraint(kind="regex" if kind == "regex" else "lark", text=wanted.pattern)
    schema = schema_of(wanted)
    if not functions:
        return Constraint.json_schema({**schema, **_SPACE})
    rules = _json_rule("answer", schema), _json_rule("call", _any_call(functions))
    return Constraint(kind="lark", text="\n".join(["start: answer | call", *rules]))


def schema_of(wanted: JsonObject | SchemaFormat) -> Mapping[str, Any]:
    """Return the JSON Schema of a format; `true` and `false` are schemas too."""
    if isinstance(wanted, JsonObject):
        return {"type": "object"}
    schema = wanted.json_schema.schema_
    if schema is False:
        raise Failure(
            400,
            "response_format: the schema false was given, which no answer fits; a schema that "
            "allows something is expected.",
            param="response_format",
        )
    return schema if isinstance(schema, Mapping) else {}


def _any_call(functions: Functions) -> Mapping[str, Any]:
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": function["name"]},
                "parameters": function.get("parameters") or {"type": "object"},
            },
            "required": ["name", "parameters"],
            "additionalProperties": False,
        }
        for function in functions
    ]
    return _hoisted(calls)


def _hoisted(calls: list[dict[str, Any]]) -> Mapping[str, Any]:
    """Join schemas, with the definitions that each refers to at the top."""
    top: dict[str, Any] = {}
    for call in calls:
        parameters = call["properties"]["parameters"]
        for key in ("$defs", "definitions"):
            if isinstance(parameters, Mapping) and isinstance(parameters.get(key), Mapping):
                top[key] = {**top.get(key, {}), **parameters[key]}
    joined = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return {**joined, **top}


def _json_rule(name: str, schema: Mapping[str, Any]) -> str:
    return f"{name}: %json {json.dumps({**schema, **_SPACE})}"
