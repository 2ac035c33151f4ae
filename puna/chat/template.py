"""A model's own jinja template as a dialect: its text becomes ids, and contents stay text.

A template mixes its control tokens and what users wrote into one string, in which nothing tells
them apart. So the dialog is rendered a second time with every sign that control tokens cannot do
without replaced by an unguessable word wherever it stands in a message, a call or a schema
(`puna.chat.guard`). A control token that is still whole in that rendering was written by the
template; all others were not, and stay text.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from puna.chat.dates import short_date
from puna.chat.declared import Declared
from puna.chat.guard import Guard, as_dictionary, new_guard, strings
from puna.chat.messages import Message
from puna.chat.pieces import Prompt, PromptBuilder
from puna.chat.spans import Span, trained_spans
from puna.errors import RequestError
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.specials import IMAGE


class Template:
    """A chat template on one tokenizer; see `ChatFormat` for the arguments."""

    def __init__(self, tok: Tokenizer, text: str, *, in_system: bool) -> None:
        self._tok = tok
        # jinja2 takes a while to import, and most formats of chat need none of it.
        from puna.chat.jinja import compile_template

        self._template = compile_template(text)
        self._in_system = in_system
        names = list(tok.specials)
        self._controls = _any_of(names)
        self._signs = _signs(names)
        by_id = {number: name for name, number in tok.specials.items()}
        self._bos, self._eos = by_id[tok.bos_id], by_id.get(tok.eos_id, "")
        self._header = ""  # what the template added last where an answer was wanted
        self._stops = frozenset(name for name in names if tok.specials[name] in tok.stop_ids)

    def render(
        self, messages: Sequence[Message], tools: Declared, day: date | None, *, reply: bool
    ) -> Prompt:
        """Render a dialog; exactly one begin-of-text stands before it, whatever the template does.

        Raises:
            RequestError: the template refuses the dialog; or it treats signs of control tokens in
                messages in a way that leaves open who wrote what.
        """
        text, shown = self._text(_Shown.of(messages, tools, day), reply=reply)
        spans = self._trained(shown, text, reply=reply)
        guard = shown.guard
        out = PromptBuilder(self._tok)
        out.start()
        images = 0
        leading = True  # whether nothing but begin-of-text was seen
        for start, end, name in self._segments(text):
            while spans and spans[0][1] <= start:
                spans = spans[1:]
            if name == self._bos and leading:
                continue
            leading = False
            if name is not None:
                images += name == IMAGE
                out.control(name, trained=bool(spans) and spans[0][0] <= start)
            else:
                parts = _cut(text, start, end, spans)
                out.run([(guard.restore(part), trained) for part, trained in parts])
        self._require_images(messages, images)
        return out.prompt()

    def _text(self, plain: "_Shown", *, reply: bool) -> tuple[str, "_Shown"]:
        """Render to a string in which every whole control token is the template's own."""
        text = self._run(plain, reply=reply)
        said = "".join(strings((plain.messages, plain.functions)))
        if not any(sign in said for sign in self._signs):
            return text, plain
        guarded = plain.guarded(new_guard(self._signs))
        guarded_text = self._run(guarded, reply=reply)
        if guarded.guard.restore(guarded_text) == text:
            return guarded_text, guarded
        # The template looked at the signs themselves. Where both renderings have the same control
        # tokens, none came from a message.
        if self._controls.findall(text) == self._controls.findall(guarded_text):
            return text, plain
        raise RequestError(
            "chat template: a message holds text that looks like a control token, and the template "
            "changes it in a way that does not tell it from a real one. Remove that text, or use "
            "the dialect 'meta' or 'hf'."
        )

    def _run(self, shown: "_Shown", count: int | None = None, *, reply: bool) -> str:
        """Render the first `count` messages."""
        variables: dict[str, Any] = {
            "messages": shown.messages if count is None else shown.messages[:count],
            "tools": shown.functions or None,
            "add_generation_prompt": reply,
            "bos_token": self._bos,
            "eos_token": self._eos,
            "tools_in_user_message": not self._in_system,
        }
        if shown.builtins:
            variables["builtin_tools"] = list(shown.builtins)
        if shown.day is not None:
            variables["date_string"] = short_date(shown.day)
        return self._template.run(shown.day, variables)

    def _trained(self, shown: "_Shown", text: str, *, reply: bool) -> list[Span]:
        turns = [i for i, message in enumerate(shown.messages) if message["role"] == "assistant"]
        if not turns:
            return []
        length = len(shown.messages)
        if reply and self._header and text.endswith(self._header):
            # This template was seen to add that header where an answer is wanted, so what stands
            # before it is the dialog without, and need not be rendered.
            known = {(length, True): text, (length, False): text.removesuffix(self._header)}
        else:
            known = {(length, reply): text}

        def prefix(count: int, reply: bool) -> str:
            if (count, reply) not in known:
                known[count, reply] = self._run(shown, count, reply=reply)
            return known[count, reply]

        headed, bare = prefix(length, True), prefix(length, False)
        self._header = headed.removeprefix(bare) if headed.startswith(bare) else ""
        return trained_spans(
            text,
            turns,
            prefix,
            length=length,
            controls=self._controls,
            stops=self._stops,
            reply=reply,
        )

    def _segments(self, text: str) -> Iterator[tuple[int, int, str | None]]:
        """Cut text into control tokens, which have a name, and what stands between them."""
        at = 0
        for match in self._controls.finditer(text):
            if at < match.start():
                yield at, match.start(), None
            yield *match.span(), match.group()
            at = match.end()
        if at < len(text):
            yield at, len(text), None

    def _require_images(self, messages: Sequence[Message], written: int) -> None:
        """Stop where the template did not write an image as one, or wrote one by itself."""
        given = sum(len(message.images) for message in messages)
        if given != written:
            raise RequestError(
                f"chat template: the dialog holds {given} images and the template wrote {written} "
                f"{IMAGE}; each image must be written once. Use the dialect 'meta' or 'hf', or "
                "send text alone."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """A dialog as the template is given it."""

    guard: Guard
    messages: list[dict[str, Any]]
    functions: list[dict[str, Any]]
    builtins: tuple[str, ...]
    day: date | None

    @classmethod
    def of(cls, messages: Sequence[Message], tools: Declared, day: date | None) -> "_Shown":
        return cls(
            guard=Guard({}),
            messages=[as_dictionary(message) for message in messages],
            functions=[dict(tool) for tool in tools.functions],
            builtins=tools.builtins,
            day=day,
        )

    def guarded(self, guard: Guard) -> "_Shown":
        """Return the same dialog with the signs of control tokens replaced in all that was said."""
        return replace(
            self,
            guard=guard,
            messages=[guard.protect_message(message) for message in self.messages],
            functions=guard.protect(self.functions),
        )


def _signs(names: Sequence[str]) -> list[str]:
    """Return signs without which no text can be a part of a control token.

    Llama 3's all hold a bar: where a template writes every bar of a token, it writes the token.
    """
    if names and all("|" in name for name in names):
        return ["|"]
    return sorted({name[0] for name in names} | {name[-1] for name in names} | {"|"})


def _any_of(names: Sequence[str]) -> re.Pattern[str]:
    """Match any of the names, the longest where one begins another."""
    in_order = sorted(names)
    if not any(b.startswith(a) for a, b in itertools.pairwise(in_order)):
        # None begins another, so the order is free: most of them are reserved and never written.
        return re.compile("|".join(map(re.escape, sorted(names, key=_is_reserved))) or r"(?!)")
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))))


def _is_reserved(name: str) -> bool:
    return "reserved" in name


def _cut(text: str, start: int, end: int, spans: Sequence[Span]) -> list[tuple[str, bool]]:
    """Cut text[start:end] at the borders of the trained spans, which are in order."""
    parts: list[tuple[str, bool]] = []
    at = start
    for begin, stop in spans:
        if begin >= end:
            break
        if at < begin:
            parts.append((text[at:begin], False))
            at = begin
        parts.append((text[at : min(stop, end)], True))
        at = min(stop, end)
    return [*parts, (text[at:end], False)] if at < end else parts
