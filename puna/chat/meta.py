"""The dialect of Meta's own encoder: bodies stand exactly as given, nothing is trimmed.

Without tools and date nothing is added either: the caller's system text is the system message. With
them, the header block that Llama 3.1 was trained on comes before that text, and functions are
described in a user message of their own.

Source: Meta, prompt formats of Llama 3.1 (every section); llama-models, chat format.
"""

from collections.abc import Sequence
from datetime import date

from puna.chat.calls import as_json, write_calls
from puna.chat.dates import KNOWLEDGE_DATE, long_date
from puna.chat.declared import BUILTINS, CODE_INTERPRETER, Declared
from puna.chat.messages import TOOL_ROLES, Message
from puna.chat.pieces import PromptBuilder
from puna.errors import RequestError

SPECIALS = (
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|python_tag|>",
)

ENVIRONMENT = "Environment: ipython"

_INSTRUCTION = """\
These functions are at hand, each described in JSON. Call one whenever it helps to answer; if none \
of them fits the question, say so.

{functions}

To call a function, answer with nothing but one JSON object of this shape:
{{"name": <name of the function>, "parameters": {{<name of an argument>: <its value>}}}}
Write values out in full; variables are not known here."""


def render_meta(
    out: PromptBuilder,
    messages: Sequence[Message],
    tools: Declared,
    day: date | None,
    *,
    reply: bool,
) -> None:
    """Append the dialog to `out`; `reply` ends it with the header of the assistant's answer."""
    messages = _with_header(messages, tools, day)
    messages = _with_functions(messages, tools)
    first = messages[0]
    ipython = first.role == "system" and first.content.startswith(ENVIRONMENT)
    out.control("<|begin_of_text|>")
    for message in messages:
        open_message(out, "ipython" if message.role in TOOL_ROLES else message.role)
        if message.tool_calls:
            _calls(out, message, tools, ipython=ipython)
        else:
            trained = message.role == "assistant"
            out.text(message.content, trained=trained)
            out.control("<|eot_id|>", trained=trained)
    if reply:
        open_message(out, "assistant")


def open_message(out: PromptBuilder, role: str) -> None:
    """Append a header. Role and blank line are encoded by themselves, as Meta's encoder does."""
    out.control("<|start_header_id|>")
    out.text(role)
    out.control("<|end_header_id|>")
    out.text("\n\n")


def _calls(out: PromptBuilder, message: Message, tools: Declared, *, ipython: bool) -> None:
    """Append an assistant body that calls tools.

    The python tag marks where a call begins; it is left out only where the format leaves it out:
    a JSON call alone, outside the ipython environment.
    """
    functions = tools.names.difference(tools.builtins)
    builtins = {*tools.builtins, *BUILTINS} - functions
    is_builtin = any(call.name in builtins for call in message.tool_calls)
    tagged = ipython or is_builtin or bool(message.content)
    out.text(message.content, trained=True)
    if tagged:
        out.control("<|python_tag|>", trained=True)
    out.text(write_calls(message.tool_calls, builtins=builtins, typed=tagged), trained=True)
    out.control("<|eom_id|>" if ipython or is_builtin else "<|eot_id|>", trained=True)


def _with_header(
    messages: Sequence[Message], tools: Declared, day: date | None
) -> Sequence[Message]:
    """Put environment, tools and date before the system text, unless the caller wrote them."""
    system = messages[0].content if messages[0].role == "system" else ""
    if system.startswith(ENVIRONMENT):
        if day is not None:
            raise RequestError(
                f"chat dialect 'meta': a date is given, but the system text brings its own header "
                f"({ENVIRONMENT!r}). Write the date into that header or leave the header out."
            )
        return messages
    lines = []
    if tools:
        listed = [name for name in tools.builtins if name != CODE_INTERPRETER]
        lines.append(ENVIRONMENT)
        if listed or day:
            lines.append("Tools: " + ", ".join(listed) if listed else "")
    if day is not None:
        lines += [f"Cutting Knowledge Date: {KNOWLEDGE_DATE}", f"Today Date: {long_date(day)}"]
    if not lines:
        return messages
    header = "\n".join(lines)
    if messages[0].role != "system":
        return [Message(role="system", content=header), *messages]
    return [Message(role="system", content=f"{header}\n\n{system}"), *messages[1:]]


def _with_functions(messages: Sequence[Message], tools: Declared) -> Sequence[Message]:
    """Describe the functions in a user message before the first one of the dialog."""
    if not tools.functions:
        return messages
    first = next((i for i, message in enumerate(messages) if message.role == "user"), None)
    if first is None:
        raise RequestError(
            "chat dialect 'meta': functions are given, but no user message before which to "
            "describe them. Add the user's message."
        )
    functions = "\n\n".join(as_json(dict(tool)) for tool in tools.functions)
    text = _INSTRUCTION.format(functions=functions)
    return [*messages[:first], Message(role="user", content=text), *messages[first:]]
