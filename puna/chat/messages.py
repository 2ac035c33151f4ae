"""Messages of a dialog: OpenAI's dictionaries and puna's frozen classes say the same thing.

Every way into the house (chat, server, fine-tuning data, evaluation) passes `to_messages` first, so
that the renderer and the tool loop know one shape only. What Llama 3.1 has no place for is refused
here, in a sentence, and never dropped.
"""

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from puna.chat.contents import (
    Image,
    cut_at_images,
    read_content,
    refuse_surrogates,
    require_places,
    to_parts,
)
from puna.chat.literals import write_json
from puna.errors import RequestError

ROLES = ("system", "user", "assistant", "tool", "ipython")
TOOL_ROLES = ("tool", "ipython")  # OpenAI's name and Llama's name of the same role

_KEYS = frozenset({"role", "content", "context", "tool_calls", "tool_call_id", "name"})


def new_call_id() -> str:
    """Return an id for a tool call that no other call has."""
    return f"call_{secrets.token_hex(12)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """One call that the assistant asks for. Its id names it but is no part of what it says."""

    name: str
    arguments: Mapping[str, Any]
    id: str = field(default_factory=new_call_id, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens that an answer cost."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        """Prompt and answer together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a dialog, or a part of a turn that waits for a tool.

    `context` is what was retrieved for a question (RAG). `images` are the user's pictures.
    `finish_reason` and `usage` are set on answers of a model: "stop", "tool_calls" or "length".
    """

    role: str
    content: str = ""
    context: str | None = None
    images: tuple[Image, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise RequestError(
                f"message: unknown role {self.role!r}; a role is one of {', '.join(ROLES)}."
            )
        if self.tool_calls and self.role != "assistant":
            raise RequestError(
                f"message: a {self.role} message holds tool calls; only the assistant calls tools. "
                "Remove them or change the role."
            )
        if self.tool_call_id is not None and self.role not in TOOL_ROLES:
            raise RequestError(
                f"message: a {self.role} message holds a tool_call_id; "
                "only a tool message answers a call."
            )
        if self.role != "user" and (self.context is not None or self.images):
            given = "an image" if self.images else "a context"
            raise RequestError(
                f"message: a {self.role} message holds {given}; only a user's message may. "
                "Move it there."
            )
        require_places(self.images, self.content)
        refuse_surrogates(self.content, where=f"{self.role} message")
        if self.context is not None:
            refuse_surrogates(self.context, where=f"context of a {self.role} message")

    @property
    def body(self) -> str:
        """The text that the model reads: the content and, after a blank line, the context.

        Source: llama-models, chat format, "context" of a user's message.
        """
        return self.content if self.context is None else f"{self.content}\n\n{self.context}"

    @property
    def parts(self) -> list[str | Image]:
        """The body cut at its images; texts between images may be empty."""
        return cut_at_images(self.body, self.images)


def to_messages(dialog: Iterable[Message | Mapping[str, Any]]) -> list[Message]:
    """Read a dialog given as OpenAI's dictionaries, as puna's messages, or as a mixture.

    Raises:
        RequestError: something in it is malformed, or has no place in the Llama 3.1 format.
    """
    if isinstance(dialog, str | bytes | Mapping) or not isinstance(dialog, Iterable):
        raise RequestError(
            f"messages: {type(dialog).__name__} given; a list of messages is expected. "
            'Write [{"role": "user", "content": "..."}].'
        )
    return [_message(item, where=f"messages[{index}]") for index, item in enumerate(dialog)]


def to_openai(message: Message) -> dict[str, Any]:
    """Return the message as OpenAI's dictionary, arguments as JSON text."""
    result: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.images:
        result["content"] = to_parts(message.content, message.images)
    if message.context is not None:
        result["context"] = message.context
    if message.tool_calls:
        result["content"] = message.content or None
        result["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": write_json(dict(call.arguments)),
                },
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        result["tool_call_id"] = message.tool_call_id
    return result


def _message(item: Message | Mapping[str, Any], *, where: str) -> Message:
    if isinstance(item, Message):
        return item
    if not isinstance(item, Mapping):
        raise RequestError(
            f"{where}: {type(item).__name__} given; a dictionary with role and content is expected."
        )
    # The official client sends unused fields as None or as empty lists; they say nothing.
    given = {key: value for key, value in item.items() if key in _KEYS or value}
    for key in given:
        if key not in _KEYS:
            raise RequestError(
                f"{where}: key {key!r} has no place in a Llama 3.1 message; "
                f"known keys are {', '.join(sorted(_KEYS))}. Remove it."
            )
    role = given.get("role")
    if role not in ROLES:
        raise RequestError(f"{where}: unknown role {role!r}; a role is one of {', '.join(ROLES)}.")
    if given.get("name") is not None and role not in TOOL_ROLES:
        raise RequestError(
            f"{where}: a {role} message holds a name, and Llama 3.1 has no place for it; "
            "only tool messages may carry the tool's name. Write it into the content."
        )
    calls = _tool_calls(given.get("tool_calls"), where=where)
    if given.get("content") is None and not calls:
        raise RequestError(
            f"{where}: a {role} message has no content; text is expected "
            "(only an assistant message that calls tools may have none)."
        )
    content, images = read_content(given.get("content"), where=where)
    return Message(
        role=role,
        content=content,
        context=_optional_text(given.get("context"), where=f"{where}.context"),
        images=images,
        tool_calls=calls,
        tool_call_id=_optional_text(given.get("tool_call_id"), where=f"{where}.tool_call_id"),
    )


def _tool_calls(calls: Any, *, where: str) -> tuple[ToolCall, ...]:
    if calls is None:
        return ()
    if not isinstance(calls, list | tuple):
        raise RequestError(f"{where}.tool_calls: {type(calls).__name__} given; a list is expected.")
    return tuple(
        _tool_call(call, where=f"{where}.tool_calls[{index}]") for index, call in enumerate(calls)
    )


def _tool_call(call: Any, *, where: str) -> ToolCall:
    if isinstance(call, ToolCall):
        return call
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or call.get("type", "function") != "function":
        raise RequestError(
            f"{where}: not a function call; "
            '{"id": ..., "type": "function", "function": {"name": ..., "arguments": ...}} '
            "is expected."
        )
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise RequestError(f"{where}: the call has no name; a function's name is expected.")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError) as error:
            raise RequestError(
                f"{where}: the arguments of {name!r} are not JSON ({error}); "
                "a JSON object is expected."
            ) from None
    if not isinstance(arguments, Mapping):
        raise RequestError(
            f"{where}: the arguments of {name!r} are {type(arguments).__name__}; "
            "a JSON object is expected."
        )
    try:
        written = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestError(
            f"{where}: the arguments of {name!r} cannot be written as JSON ({error}); "
            "a JSON object is expected."
        ) from None
    refuse_surrogates(written, where=where)
    call_id = _optional_text(call.get("id"), where=f"{where}.id")
    return ToolCall(name=name, arguments=dict(arguments), id=call_id or new_call_id())


def _optional_text(value: Any, *, where: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise RequestError(f"{where}: {type(value).__name__} given; text is expected.")
