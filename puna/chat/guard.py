"""What a dialog's authors wrote, marked so that it can be found again in a template's output.

A template mixes its own control tokens and other people's texts into one string. The signs that
control tokens cannot do without are replaced in the texts by words that nobody can guess; a control
token that is still whole in the output is the template's own.
"""

import secrets
import string
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from puna.chat.messages import TOOL_ROLES, Message

_LETTERS = string.ascii_lowercase + string.digits
_LENGTH = 24  # letters of a word: more than 100 bits


@dataclass(frozen=True, slots=True)
class Guard:
    """Words that stand for the signs of control tokens in what others wrote."""

    words: Mapping[str, str]

    def protect(self, value: Any) -> Any:
        """Return the value with the signs replaced in every string, keys too."""
        if isinstance(value, str):
            for sign, word in self.words.items():
                value = value.replace(sign, word)
            return value
        if isinstance(value, Mapping):
            return {self.protect(key): self.protect(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.protect(item) for item in value]
        return value

    def protect_message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return a message with the signs replaced in all that its author chose."""
        return {
            key: value if key == "role" else self.protect(value) for key, value in message.items()
        }

    def restore(self, text: str) -> str:
        """Put the signs back."""
        for sign, word in self.words.items():
            text = text.replace(word, sign)
        return text


def new_guard(signs: Collection[str]) -> Guard:
    """Make up words for the signs, without any sign in them."""
    letters = [letter for letter in _LETTERS if letter not in signs]
    return Guard({sign: "".join(secrets.choice(letters) for _ in range(_LENGTH)) for sign in signs})


def as_dictionary(message: Message) -> dict[str, Any]:
    """Return a message as templates expect it: arguments as a dictionary, absent keys absent."""
    result: dict[str, Any] = {"role": message.role, "content": message.body}
    if message.images:
        result["content"] = [
            {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
            for part in message.parts
            if part != ""
        ]
    if message.tool_calls:
        result["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": dict(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.role in TOOL_ROLES and message.tool_call_id is not None:
        result["tool_call_id"] = message.tool_call_id
    return result


def strings(value: Any) -> Iterator[str]:
    """Yield every string inside a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from strings(key)
            yield from strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from strings(item)
