"""The dialects of the published templates: `hf` is Llama 3.1's, `hf3` is Llama 3's.

Both trim the texts. `hf` always writes a system message with two date lines, and describes tools in
it or in the first user message. `puna.chat.template` can run the template itself; these functions
give the same ids without jinja, and refuse what the template would drop.

Source: the chat template published with Llama 3.1 8B Instruct; its sentences are what the released
weights expect and are quoted for that reason. Llama 3: the template of 8B Instruct.
"""

import functools
import json
from collections.abc import Sequence
from datetime import date

from puna.chat.calls import as_json
from puna.chat.contents import Image
from puna.chat.dates import FALLBACK_DATE, KNOWLEDGE_DATE, short_date
from puna.chat.declared import CODE_INTERPRETER, Declared
from puna.chat.messages import TOOL_ROLES, Message
from puna.chat.meta import ENVIRONMENT, open_message
from puna.chat.pieces import PromptBuilder
from puna.chat.styles import require_json
from puna.errors import RequestError

HF3_SPECIALS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")

_SHAPE = (
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and '
    "its value}.Do not use variables.\n\n"
)
_IN_SYSTEM = (
    "You have access to the following functions. To call a function, please respond with JSON for "
    "a function call." + _SHAPE
)
_IN_USER = (
    "Given the following functions, please respond with a JSON for a function call with its proper "
    "arguments that best answers the given prompt.\n\n" + _SHAPE
)


def render_hf3(
    out: PromptBuilder,
    messages: Sequence[Message],
    tools: Declared,
    *,
    reply: bool,
) -> None:
    """Append the dialog in the format of Llama 3, which knows no tools."""
    if tools or any(m.tool_calls or m.role in TOOL_ROLES for m in messages):
        raise RequestError(
            "chat dialect 'hf3': tools or tool messages are given; Llama 3 has no place for them. "
            "Choose the dialect 'hf' or 'meta', or leave them out."
        )
    out.control("<|begin_of_text|>")
    for message in messages:
        _plain(out, message)
    if reply:
        open_message(out, "assistant")


def render_hf(
    out: PromptBuilder,
    messages: Sequence[Message],
    tools: Declared,
    day: date | None,
    *,
    reply: bool,
    in_system: bool,
) -> None:
    """Append the dialog as the published template of Llama 3.1 does."""
    system = ""
    if messages[0].role == "system":
        system, messages = messages[0].content.strip(), messages[1:]
    out.control("<|begin_of_text|>")
    _write(out, "system", [_system(system, tools, day, in_system=in_system)])
    if tools.functions and not in_system:
        if not messages or messages[0].role != "user":
            raise RequestError(
                "chat dialect 'hf': functions are described in the first user message, but the "
                "dialog does not begin with one. Begin it so, or use tools_in='system'."
            )
        instruction = _IN_USER + _schemas(json.dumps(tools.functions))
        _write(out, "user", _trimmed(messages[0], before=instruction))
        messages = messages[1:]
    for message in messages:
        if message.tool_calls:
            _call(out, message, tools)
        elif message.role in TOOL_ROLES:
            _write(out, "ipython", [as_json(message.content)])
        else:
            _plain(out, message)
    if reply:
        open_message(out, "assistant")


def _plain(out: PromptBuilder, message: Message) -> None:
    _write(out, message.role, _trimmed(message))


def _write(out: PromptBuilder, role: str, parts: Sequence[str | Image]) -> None:
    trained = role == "assistant"
    open_message(out, role)
    out.parts(parts, trained=trained)
    out.control("<|eot_id|>", trained=trained)


def _trimmed(message: Message, before: str = "") -> list[str | Image]:
    """Return what a message says without white space round it; an image is no white space."""
    parts = message.parts
    first, last = parts[0], parts[-1]
    assert isinstance(first, str)
    assert isinstance(last, str)
    if len(parts) == 1:
        return [before + first.strip()]
    return [before + first.lstrip(), *parts[1:-1], last.rstrip()]


def _system(system: str, tools: Declared, day: date | None, *, in_system: bool) -> str:
    lines = []
    if tools:
        lines.append(f"{ENVIRONMENT}\n")
    if tools.builtins:
        listed = (name for name in tools.builtins if name != CODE_INTERPRETER)
        lines.append("Tools: " + ", ".join(listed) + "\n\n")
    lines.append(f"Cutting Knowledge Date: {KNOWLEDGE_DATE}\n")
    lines.append(f"Today Date: {short_date(day) if day else FALLBACK_DATE}\n\n")
    if tools.functions and in_system:
        lines += [_IN_SYSTEM, _schemas(json.dumps(tools.functions))]
    return "".join(lines) + system


# Writing JSON with line breaks is slow, and a dialog has the same functions in every turn.
@functools.lru_cache(maxsize=64)
def _schemas(functions: str) -> str:
    return "".join(
        json.dumps(tool, ensure_ascii=False, indent=4) + "\n\n" for tool in json.loads(functions)
    )


def _call(out: PromptBuilder, message: Message, tools: Declared) -> None:
    """Append the one call that the template can write."""
    if len(message.tool_calls) != 1 or message.content.strip():
        raise RequestError(
            f"chat dialect 'hf': an assistant message holds {len(message.tool_calls)} calls and "
            f"{len(message.content)} characters of text; the published template writes exactly one "
            "call and nothing beside it. Use the dialect 'meta'."
        )
    require_json(message.tool_calls)
    call = message.tool_calls[0]
    open_message(out, "assistant")
    if call.name in tools.builtins:
        out.control("<|python_tag|>", trained=True)
        arguments = []
        for name, value in call.arguments.items():
            if not isinstance(value, str):
                raise RequestError(
                    f"chat dialect 'hf': argument {name!r} of the built-in {call.name!r} is "
                    f"{type(value).__name__}; the published template writes text only."
                )
            arguments.append(f'{name}="{value}"')  # unescaped, as the template has it
        out.text(f"{call.name}.call({', '.join(arguments)})", trained=True)
    else:
        head = f'{{"name": "{call.name}", "parameters": '
        out.text(head + as_json(dict(call.arguments)) + "}", trained=True)
    out.control("<|eom_id|>" if tools.builtins else "<|eot_id|>", trained=True)
