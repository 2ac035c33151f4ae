"""The dialect of Meta's own encoder: bodies stand exactly as given, nothing is trimmed.

Without tools and date nothing is added either: the caller's system text is the system message. With
them, the header block that Llama 3.1 was trained on comes before that text, and functions are
described where `ToolFormat` says.

Source: Meta, prompt formats of Llama 3.1 (every section); llama-models, chat format.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from puna.chat.dates import KNOWLEDGE_DATE, long_date
from puna.chat.declared import BUILTINS, CODE_INTERPRETER, Declared
from puna.chat.instructions import ask_with_functions, describe
from puna.chat.messages import TOOL_ROLES, Message
from puna.chat.pieces import PromptBuilder
from puna.chat.styles import ToolFormat, written_calls
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


def render_meta(
    out: PromptBuilder,
    messages: Sequence[Message],
    tools: Declared,
    day: date | None,
    *,
    reply: bool,
    form: ToolFormat,
) -> None:
    """Append the dialog to `out`; `reply` ends it with the header of the assistant's answer."""
    messages = _with_header(messages, tools, day, form)
    if tools.functions:
        messages = _with_functions(messages, tools, form)
    first = messages[0]
    ipython = first.role == "system" and first.content.startswith(ENVIRONMENT)
    out.control("<|begin_of_text|>")
    for number, message in enumerate(messages, 1):
        open_message(out, "ipython" if message.role in TOOL_ROLES else message.role)
        if message.tool_calls:
            is_past = number < len(messages)
            _calls(out, message, tools, form, ipython=ipython, is_past=is_past)
        else:
            trained = message.role == "assistant"
            out.parts(message.parts, trained=trained)
            out.control("<|eot_id|>", trained=trained)
    if reply:
        open_message(out, "assistant")


def open_message(out: PromptBuilder, role: str) -> None:
    """Append a header. Role and blank line are encoded by themselves, as Meta's encoder does."""
    out.control("<|start_header_id|>")
    out.text(role)
    out.control("<|end_header_id|>")
    out.text("\n\n")


def _calls(
    out: PromptBuilder,
    message: Message,
    tools: Declared,
    form: ToolFormat,
    *,
    ipython: bool,
    is_past: bool,
) -> None:
    """Append an assistant body that calls tools.

    The python tag marks where calls begin. It is left out where the format leaves it out: before
    calls in a function tag or a Python list, and before JSON outside the ipython environment; but
    not after text, from which it alone tells them. Meta's example of a whole round in the style of
    Python lists has it before the call that was answered, and none before a call to be learned.
    """
    functions = tools.names.difference(tools.builtins)
    builtins = {*tools.builtins, *BUILTINS} - functions
    is_builtin = any(call.name in builtins for call in message.tool_calls)
    waits = is_builtin or (ipython and form.style == "json")
    is_printed = form.meta_compat and form.style == "python_list" and is_past
    tagged = waits or is_printed or bool(message.content)
    out.text(message.content, trained=True)
    for text in written_calls(message.tool_calls, builtins=builtins, form=form, tagged=tagged):
        if tagged:
            out.control("<|python_tag|>", trained=True)
        out.text(text, trained=True)
    out.control("<|eom_id|>" if waits else "<|eot_id|>", trained=True)


def _with_header(
    messages: Sequence[Message], tools: Declared, day: date | None, form: ToolFormat
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
    if tools.builtins or (tools.functions and form.style != "python_list"):
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
    # Without a text of the caller, the header's last line is whole, and no blank line follows it.
    body = f"{header}\n\n{system}" if system else f"{header}\n"
    return [Message(role="system", content=body), *messages[1:]]


def _with_functions(
    messages: Sequence[Message], tools: Declared, form: ToolFormat
) -> Sequence[Message]:
    """Describe the functions: at the end of the system text, or at the dialog's first question."""
    text = describe(tools.functions, style=form.style, meta_compat=form.meta_compat)
    if form.in_system:
        if messages[0].role != "system":
            return [Message(role="system", content=text), *messages]
        system = f"{messages[0].content}\n\n{text}"
        return [Message(role="system", content=system), *messages[1:]]
    first = next((i for i, message in enumerate(messages) if message.role == "user"), None)
    if first is None:
        raise RequestError(
            "chat dialect 'meta': functions are given, but no user message before which to "
            "describe them. Add the user's message, or use tools_in='system'."
        )
    question = messages[first]
    if form.style != "python_list":
        return [*messages[:first], Message(role="user", content=text), *messages[first:]]
    return [*messages[:first], _asked_with_functions(question, tools, form), *messages[first + 1 :]]


def _asked_with_functions(question: Message, tools: Declared, form: ToolFormat) -> Message:
    before, text = ask_with_functions(question.body, tools.functions, meta_compat=form.meta_compat)
    images = tuple(replace(image, at=image.at + before) for image in question.images)
    return Message(role="user", content=text, images=images)
