"""A tool call as the text that Llama 3.1 writes for it.

Three forms: a built-in tool is called like a method, code stands as it is, and a function is called
by a JSON object. `puna.chat.parse` reads the same forms back.

Source: Meta, prompt formats of Llama 3.1, sections "Builtin Tool Calling", "Builtin Code
Interpreter" and "JSON based tool calling".
"""

import json
from collections.abc import Collection

from puna.chat.declared import CODE_INTERPRETER
from puna.chat.literals import write_json
from puna.chat.messages import ToolCall
from puna.errors import RequestError

SEPARATOR = "; "  # between several calls in one message

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def as_method(call: ToolCall) -> str:
    """Write `name.call(query="...")`; text is quoted, so that any value can be read back."""
    arguments = []
    for name, value in call.arguments.items():
        if not name.isidentifier():
            raise RequestError(
                f"tool call of {call.name!r}: argument {name!r} is not an identifier, "
                "which the built-in form needs. Declare the tool as a function."
            )
        text = f'"{value.translate(_ESCAPES)}"' if isinstance(value, str) else as_json(value)
        arguments.append(f"{name}={text}")
    return f"{call.name}.call({', '.join(arguments)})"


def as_code(call: ToolCall) -> str:
    """Return the code that the interpreter is asked to run."""
    code = call.arguments.get("code")
    if not isinstance(code, str) or len(call.arguments) != 1:
        raise RequestError(
            f"tool call of {CODE_INTERPRETER!r}: arguments {sorted(call.arguments)} given; "
            'exactly {"code": text} is expected.'
        )
    return code


def as_object(call: ToolCall, *, typed: bool, in_lines: bool = False) -> str:
    """Write the JSON object of a function call; `typed` adds the type, as after the python tag."""
    head = {"type": "function"} if typed else {}
    written = {**head, "name": call.name, "parameters": dict(call.arguments)}
    return json.dumps(written, ensure_ascii=False, indent=4) if in_lines else as_json(written)


def as_json(value: object) -> str:
    """JSON with every character as itself, as the published templates write it."""
    return write_json(value)


def write_calls(
    calls: Collection[ToolCall], *, builtins: Collection[str], typed: bool, in_lines: bool = False
) -> str:
    """Write the calls of one message, each in the form that its name asks for."""
    texts = []
    for call in calls:
        if call.name == CODE_INTERPRETER:
            if len(calls) > 1:
                raise RequestError(
                    f"tool calls: {CODE_INTERPRETER!r} is called beside other tools; code takes "
                    "the whole message. Give each its own message."
                )
            texts.append(as_code(call))
        elif call.name in builtins:
            texts.append(as_method(call))
        else:
            texts.append(as_object(call, typed=typed, in_lines=in_lines))
    return SEPARATOR.join(texts)
