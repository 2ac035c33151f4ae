"""A model's own jinja template as a dialect: its text becomes ids, and contents stay text.

A template mixes its control tokens and what users wrote into one string, in which nothing tells
them apart. So the dialog is rendered a second time with every sign that a control token can begin,
end or join with replaced by an unguessable word wherever it stands in a message, a call or a
schema. A control token that is still whole in that rendering was written by the template; all
others were not, and stay text.
"""

import itertools
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from puna.chat.dates import short_date
from puna.chat.declared import Declared
from puna.chat.jinja import compile_template
from puna.chat.messages import TOOL_ROLES, Message
from puna.chat.pieces import Prompt, PromptBuilder
from puna.chat.spans import Span, trained_spans
from puna.errors import RequestError
from puna.tokenizer.interface import Tokenizer


class Template:
    """A chat template on one tokenizer; see `ChatFormat` for the arguments."""

    def __init__(self, tok: Tokenizer, text: str, *, in_system: bool) -> None:
        self._tok = tok
        self._template = compile_template(text)
        self._in_system = in_system
        names = sorted(tok.specials, key=len, reverse=True)
        self._controls = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        self._signs = sorted({name[0] for name in names} | {name[-1] for name in names} | {"|"})
        self._by_id = {number: name for name, number in tok.specials.items()}
        self._stops = frozenset(name for name in names if tok.specials[name] in tok.stop_ids)

    def render(
        self, messages: Sequence[Message], tools: Declared, day: date | None, *, reply: bool
    ) -> Prompt:
        """Render a dialog; exactly one begin-of-text stands before it, whatever the template does.

        Raises:
            RequestError: the template refuses the dialog; or it treats signs of control tokens in
                messages in a way that leaves open who wrote what.
        """
        text, guard = self._text(messages, tools, day, reply=reply)
        spans = self._trained(messages, tools, day, text, guard, reply=reply)
        out = PromptBuilder(self._tok)
        bos = self._by_id[self._tok.bos_id]
        out.control(bos)
        leading = True  # whether nothing but begin-of-text was seen
        for start, end in self._segments(text):
            segment = text[start:end]
            if segment == bos and leading:
                continue
            leading = False
            if segment in self._tok.specials:
                out.control(segment, trained=any(s <= start < e for s, e in spans))
            else:
                parts = _cut(text, start, end, spans)
                out.run([(guard.restore(part), trained) for part, trained in parts])
        return out.prompt()

    def _text(
        self, messages: Sequence[Message], tools: Declared, day: date | None, *, reply: bool
    ) -> tuple[str, "_Guard"]:
        """Render to a string in which every whole control token is the template's own."""
        open_guard = _Guard({})
        plain = self._run(messages, tools, day, open_guard, reply=reply)
        said = "".join(_strings([_dictionary(m, open_guard) for m in messages]))
        said += "".join(_strings(list(tools.functions)))
        if not any(sign in said for sign in self._signs):
            return plain, open_guard
        guard = _Guard({sign: f"x{secrets.token_hex(12)}x" for sign in self._signs})
        guarded = self._run(messages, tools, day, guard, reply=reply)
        if guard.restore(guarded) == plain:
            return guarded, guard
        # The template looked at the signs themselves. Where both renderings have the same control
        # tokens, none came from a message.
        if self._controls.findall(plain) == self._controls.findall(guarded):
            return plain, open_guard
        raise RequestError(
            "chat template: a message holds text that looks like a control token, and the template "
            "changes it in a way that does not tell it from a real one. Remove that text, or use "
            "the dialect 'meta' or 'hf'."
        )

    def _run(
        self,
        messages: Sequence[Message],
        tools: Declared,
        day: date | None,
        guard: "_Guard",
        *,
        reply: bool,
    ) -> str:
        variables: dict[str, Any] = {
            "messages": [_dictionary(message, guard) for message in messages],
            "tools": [guard.protect(dict(tool)) for tool in tools.functions] or None,
            "add_generation_prompt": reply,
            "bos_token": self._by_id[self._tok.bos_id],
            "eos_token": self._by_id.get(self._tok.eos_id, ""),
            "tools_in_user_message": not self._in_system,
        }
        if tools.builtins:
            variables["builtin_tools"] = list(tools.builtins)
        if day is not None:
            variables["date_string"] = short_date(day)
        return self._template.run(day, variables)

    def _trained(
        self,
        messages: Sequence[Message],
        tools: Declared,
        day: date | None,
        text: str,
        guard: "_Guard",
        *,
        reply: bool,
    ) -> list[Span]:
        def prefix(count: int, reply: bool) -> str:
            return self._run(messages[:count], tools, day, guard, reply=reply)

        turns = [i for i, message in enumerate(messages) if message.role == "assistant"]
        return trained_spans(
            text,
            turns,
            prefix,
            length=len(messages),
            controls=self._controls,
            stops=self._stops,
            reply=reply,
        )

    def _segments(self, text: str) -> Iterator[Span]:
        """Cut text into control tokens and what stands between them."""
        at = 0
        for match in self._controls.finditer(text):
            if at < match.start():
                yield at, match.start()
            yield match.span()
            at = match.end()
        if at < len(text):
            yield at, len(text)


@dataclass(frozen=True, slots=True)
class _Guard:
    """Words that stand for the signs of control tokens in what others wrote."""

    words: Mapping[str, str]

    def protect(self, value: Any) -> Any:
        """Return the value with the signs replaced in every string, keys too."""
        if isinstance(value, str):
            return value.translate({ord(sign): word for sign, word in self.words.items()})
        if isinstance(value, Mapping):
            return {self.protect(key): self.protect(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.protect(item) for item in value]
        return value

    def restore(self, text: str) -> str:
        """Put the signs back."""
        for sign, word in self.words.items():
            text = text.replace(word, sign)
        return text


def _dictionary(message: Message, guard: _Guard) -> dict[str, Any]:
    """Return a message as templates expect it: arguments as a dictionary, absent keys absent."""
    result: dict[str, Any] = {"role": message.role, "content": guard.protect(message.content)}
    if message.tool_calls:
        result["tool_calls"] = [
            {
                "id": guard.protect(call.id),
                "type": "function",
                "function": {
                    "name": guard.protect(call.name),
                    "arguments": guard.protect(call.arguments),
                },
            }
            for call in message.tool_calls
        ]
    if message.role in TOOL_ROLES and message.tool_call_id is not None:
        result["tool_call_id"] = guard.protect(message.tool_call_id)
    return result


def _strings(value: Any) -> Iterator[str]:
    """Yield every string inside a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _cut(text: str, start: int, end: int, spans: Sequence[Span]) -> list[tuple[str, bool]]:
    """Cut text[start:end] at the borders of the trained spans."""
    borders = sorted({start, end, *(b for span in spans for b in span if start < b < end)})
    return [(text[a:b], any(s <= a < e for s, e in spans)) for a, b in itertools.pairwise(borders)]
