"""What an answer must look like: `response_format` and `tool_choice` become one constraint.

Both may stand in one request: then the answer is JSON of the schema or a call of a tool, and the
engine lets the model write nothing else (`puna.infer.tool_grammar`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from puna.chat.declared import declare
from puna.infer.constraints import Constraint
from puna.infer.tool_grammar import calls_or_answer
from puna.serve.bodies.chat import (
    ChatBody,
    JsonObject,
    NamedChoice,
    PatternFormat,
    ResponseFormat,
    SchemaFormat,
    TextFormat,
)
from puna.serve.dialogs import Declaration
from puna.serve.failures import Failure
from puna.tokenizer.interface import Tokenizer


def form_of(body: ChatBody, tools: Sequence[Declaration], tok: Tokenizer) -> Constraint | None:
    """Return what the answer to a dialog must look like, or None where anything goes.

    Args:
        tools: that the model is shown.
    Raises:
        Failure: `tool_choice` names a tool that is not there, or demands a call where none is.
        RequestError: a schema or a grammar is not one.
    """
    answer = answer_form(body.response_format)
    must_call = body.tool_choice == "required" or isinstance(body.tool_choice, NamedChoice)
    callable_ = [tool for tool in tools if _may_be_called(tool, body)]
    if must_call and not callable_:
        wanted = "a call is required and tools is empty"
        if isinstance(body.tool_choice, NamedChoice):
            wanted = f"there is no tool {body.tool_choice.function.name!r} in tools"
        raise Failure(400, f"tool_choice: {wanted}.", param="tool_choice")
    if must_call or (callable_ and answer is not None):
        return calls_or_answer(
            declare(callable_),
            tokenizer=tok,
            answer=None if must_call else answer,
            is_required=must_call,
            several=body.parallel_tool_calls is not False and body.tool_choice == "required",
        )
    return answer


def _may_be_called(tool: Declaration, body: ChatBody) -> bool:
    if not isinstance(body.tool_choice, NamedChoice):
        return True
    name = tool if isinstance(tool, str) else tool["function"]["name"]
    return bool(name == body.tool_choice.function.name)


def answer_form(wanted: ResponseFormat | None) -> Constraint | None:
    """Return what a text must look like."""
    match wanted:
        case None | TextFormat():
            return None
        case PatternFormat():
            kind: Any = "regex" if wanted.type == "regex" else "lark"
            return Constraint(kind=kind, text=wanted.pattern)
        case _:
            return Constraint.json_schema(_schema_of(wanted))


def _schema_of(wanted: JsonObject | SchemaFormat) -> Mapping[str, Any]:
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
