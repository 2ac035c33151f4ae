"""A body with a dialog becomes ids: messages, tools and what a template may be told beside them.

Chat completions, responses and `/tokenize` all come through here, and here the one renderer of the
house is called, so that `/tokenize` shows exactly what a completion reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date as Date
from datetime import datetime
from typing import Any

from puna.chat.messages import Message, to_messages
from puna.errors import RequestError
from puna.serve.bodies.chat import ChatMessage, FunctionTool
from puna.serve.failures import Failure
from puna.serve.served import Served

_KNOWN = ("builtin_tools", "date_string", "tools_in_user_message")
Declaration = str | Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What `chat_template_kwargs` say."""

    builtins: tuple[str, ...] = ()
    date: Date | None = None
    tools_in: str | None = None

    @classmethod
    def read(cls, given: Mapping[str, Any] | None) -> "Told":
        """Read the keys of the templates of Llama 3.1.

        Raises:
            Failure: a key is not known, or its value has the wrong form.
        """
        given = {key: value for key, value in (given or {}).items() if value is not None}
        for key in given:
            if key not in _KNOWN:
                raise _wrong(key, f"the key is not known; known are {', '.join(_KNOWN)}")
        builtins = given.get("builtin_tools", [])
        if not isinstance(builtins, list) or not all(isinstance(name, str) for name in builtins):
            raise _wrong("builtin_tools", "a list of names is expected")
        in_user = given.get("tools_in_user_message", True)
        if not isinstance(in_user, bool):
            raise _wrong("tools_in_user_message", "true or false is expected")
        return cls(
            builtins=tuple(builtins),
            date=_date(given.get("date_string")),
            tools_in=None if in_user else "system",
        )


def _date(text: Any) -> Date | None:
    if text is None:
        return None
    for form in ("%d %b %Y", "%d %B %Y", "%Y-%m-%d"):
        try:
            return datetime.strptime(str(text), form).date()
        except ValueError:
            continue
    raise _wrong("date_string", f"{text!r} was given; a date like '26 Jul 2024' is expected")


def _wrong(key: str, text: str) -> Failure:
    return Failure(400, f"chat_template_kwargs.{key}: {text}.", param=f"chat_template_kwargs.{key}")


def messages_of(given: Sequence[ChatMessage]) -> list[Message]:
    """Read the messages of a body; OpenAI's newer name of the system is the system."""
    dialog = []
    for message in given:
        item = message.model_dump(exclude_none=True)
        if item["role"] == "developer":
            item["role"] = "system"
        if item["role"] == "assistant" and not item.get("content"):
            item.setdefault("content", "")
        dialog.append(item)
    return to_messages(dialog)


def declarations(tools: Sequence[FunctionTool] | None) -> list[dict[str, Any]]:
    """Return functions as the renderer takes them, with what the client left out still out."""
    return [tool.model_dump(exclude_unset=True) for tool in tools or ()]


def render(
    served: Served,
    messages: Sequence[Message],
    tools: Sequence[Declaration],
    told: Told,
    *,
    reply: bool = True,
) -> list[int]:
    """Return the ids of a dialog.

    Raises:
        RequestError: the model has no chat format, or something has no place in it.
    """
    if any(message.images for message in messages):
        raise RequestError(
            f"{served.name}: a message holds an image, and this model reads text alone. Remove it."
        )
    form = served.format_of(told.tools_in)
    return form.render(messages, tools or None, told.date, reply).ids
