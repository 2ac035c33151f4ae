"""Tools and a form in one request: the answer is a call of a declared tool, or has that form.

The calls are written as Llama 3.1 writes them and as `puna.chat.call_forms` reads them: JSON with
the tool's own schema for its parameters, and built-ins after the python tag.
"""

import json
from collections.abc import Mapping
from typing import Any

from puna.chat.declared import CODE_INTERPRETER, Declared
from puna.errors import RequestError
from puna.infer.constraints import Constraint, spaced
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.specials import PYTHON_TAG

_QUOTED = r'/"([^"\\\x00-\x1f]|\\["\\\/bfnrt])*"/'
_ANYTHING = r"/(.|\n)+/"
# Where one of these stands, what is no property here may be one there.
_COMPOSED = frozenset(("allOf", "anyOf", "oneOf", "$ref", "$dynamicRef", "if", "patternProperties"))


def calls_or_answer(
    tools: Declared,
    *,
    tokenizer: Tokenizer,
    answer: Constraint | None = None,
    is_required: bool = False,
    several: bool = False,
) -> Constraint:
    """Return the rule for an answer that may call tools.

    Args:
        answer: the JSON Schema of an answer that calls nothing; None allows any text.
        is_required: the answer must call a tool.
        several: calls of functions may follow each other, with a semicolon between.
    Raises:
        RequestError: a call is required and no tool is declared, or the form is no JSON Schema.
    """
    if is_required and not tools:
        raise RequestError(
            "constraint: a call of a tool is required and no tools were declared; at least one is "
            "expected. Declare it, or do not require a call."
        )
    if answer is not None and answer.kind != "json_schema":
        raise RequestError(
            f"constraint: {answer.kind} was given beside tools; a JSON Schema is expected. Leave "
            "the tools out, or describe the answer by a schema."
        )
    rules: list[str] = []
    starts: list[str] = []
    if not is_required:
        starts.append("answer")
        rules.append(f"answer: {_ANYTHING if answer is None else f'%json {answer.text}'}")
    has_tag = PYTHON_TAG in tokenizer.specials
    if tools.functions:
        starts.append("calls")
        rules.append("calls: call" + (' ("; " call)*' if several else ""))
        rules.append("call: " + " | ".join(f"call_{i}" for i in range(len(tools.functions))))
        rules += [
            f"call_{i}: %json {json.dumps(_call_schema(tool['function']))}"
            for i, tool in enumerate(tools.functions)
        ]
    if has_tag:
        for i, name in enumerate(tools.builtins):
            starts.append(f"builtin_{i}")
            body = _ANYTHING if name == CODE_INTERPRETER else f'"{name}.call(query=" QUOTED ")"'
            rules.append(f"builtin_{i}: {PYTHON_TAG} {body}")
        if set(tools.builtins) - {CODE_INTERPRETER}:
            rules.append(f"QUOTED: {_QUOTED}")
    return Constraint(kind="lark", text="\n".join([f"start: {' | '.join(starts)}", *rules]))


def _call_schema(function: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a call; definitions move up, where references look for them."""
    parameters = dict(function.get("parameters") or {"type": "object"})
    if "properties" in parameters and not _COMPOSED & parameters.keys():
        # JSON Schema would let the model add arguments of its own; no function takes those.
        parameters.setdefault("additionalProperties", False)
    moved = {key: parameters.pop(key) for key in ("$defs", "definitions") if key in parameters}
    schema = {
        "type": "object",
        "properties": {"name": {"const": function["name"]}, "parameters": parameters},
        "required": ["name", "parameters"],
        "additionalProperties": False,
        **moved,
    }
    return spaced(schema)
