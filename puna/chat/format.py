"""`ChatFormat`: dialogs become ids with a loss mask, and an answer's ids become a message.

It is the one renderer of the house: fine-tuning, evaluation, chat and server all call it, so that a
model meets in use exactly what it met in training.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from puna.chat import llama2, meta, published
from puna.chat.declared import declare
from puna.chat.messages import Message, to_messages
from puna.chat.parse import AnswerParser
from puna.chat.pieces import Prompt, PromptBuilder, require_specials
from puna.chat.styles import ToolFormat
from puna.chat.template import Template
from puna.errors import ConfigError, RequestError
from puna.tokenizer.interface import Tokenizer

# The control tokens that each dialect is made of.
DIALECTS: Mapping[str, tuple[str, ...]] = {
    "meta": meta.SPECIALS,
    "hf": meta.SPECIALS,
    "hf3": published.HF3_SPECIALS,
    "llama2": llama2.SPECIALS,
}


class ChatFormat:
    """One dialect on one tokenizer.

    Args:
        tok: the model's tokenizer.
        dialect: "meta", "hf", "hf3", "llama2", or the text of a jinja chat template.
        tool_style: how `meta` shows functions and writes calls of them: "json" (Llama 3.1),
            "function_tag" (3.1 too) or "python_list" (3.2 and 3.3).
        tools_in: where functions are described, in the "user" or the "system" message; None takes
            the place of the style's own examples: the system message for "python_list".
        meta_compat: write everything as Meta's examples print it, byte for byte, also where they
            follow no rule: in "json" the parameters of functions as a list, not as JSON Schema, and
            a tagged call over several lines; in "python_list" functions in a question indented
            unevenly, and an answered call behind a python tag, in double quotes.
    """

    def __init__(
        self,
        tok: Tokenizer,
        dialect: str = "meta",
        *,
        tool_style: str = "json",
        tools_in: str | None = None,
        meta_compat: bool = False,
    ) -> None:
        self.tok = tok
        self.dialect = dialect
        self._form = ToolFormat(style=tool_style, place=tools_in, meta_compat=meta_compat)
        self._template: Template | None = None
        if dialect != "meta" and (tool_style != "json" or meta_compat):
            raise ConfigError(
                f"chat: tool_style={tool_style!r} and meta_compat={meta_compat} are given for "
                f"another dialect than 'meta', which alone has them. Leave them out."
            )
        if "{{" in dialect or "{%" in dialect:
            self._template = Template(tok, dialect, in_system=self._form.in_system)
        elif dialect in DIALECTS:
            require_specials(tok, DIALECTS[dialect], dialect=dialect)
        else:
            near = difflib.get_close_matches(dialect, DIALECTS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"chat: unknown dialect {dialect[:80]!r}.{hint} "
                f"Known are {', '.join(DIALECTS)}, or the text of a jinja template."
            )

    def render(
        self,
        messages: Iterable[Message | Mapping[str, Any]],
        tools: Iterable[str | Mapping[str, Any]] | None = None,
        date: date | None = None,
        reply: bool = True,
    ) -> Prompt:
        """Turn a dialog into what the model reads.

        Args:
            messages: OpenAI's dictionaries or puna's messages.
            tools: names of built-in tools, and functions as OpenAI's dictionaries.
            date: today, for the dialects that tell the model: "meta", "hf" and most templates.
            reply: end with the header of the assistant's answer.
        Raises:
            RequestError: something in the request has no place in the dialect.
        """
        dialog = to_messages(messages)
        if not dialog:
            raise RequestError("chat: no messages; at least one is expected.")
        declared = declare(tools)
        if self._template is not None:
            return self._template.render(dialog, declared, date, reply=reply)
        out = PromptBuilder(self.tok)
        match self.dialect:
            case "meta":
                meta.render_meta(out, dialog, declared, date, reply=reply, form=self._form)
            case "hf":
                published.render_hf(
                    out, dialog, declared, date, reply=reply, in_system=self._form.in_system
                )
            case "hf3":
                published.render_hf3(out, dialog, declared, reply=reply)
            case _:
                llama2.render_llama2(out, dialog, declared, reply=reply)
        return out.prompt()

    def render_text(self, content: str | Sequence[Mapping[str, Any]]) -> Prompt:
        """Turn text, or parts of text and images, into what a base model continues.

        Source: Meta, prompt formats of Llama 3.1 and 3.2, "base models".
        """
        message = to_messages([{"role": "user", "content": content}])[0]
        out = PromptBuilder(self.tok)
        out.start()
        out.parts(message.parts)
        return out.prompt()

    def parse(
        self, ids: Sequence[int], tools: Iterable[str | Mapping[str, Any]] | None = None
    ) -> Message:
        """Read an answer of the model; never raises, whatever the ids are, and runs nothing.

        Args:
            ids: the answer without its prompt, with or without its terminator.
            tools: what the request declared; nothing else is taken for a call. None: the built-ins.
        """
        parser = self.parser(tools)
        parser.feed(ids)
        message = parser.finish()
        if self.dialect == "llama2":  # its frame puts spaces round every answer
            return replace(message, content=message.content.strip())
        return message

    def parser(self, tools: Iterable[str | Mapping[str, Any]] | None = None) -> AnswerParser:
        """Return a parser that takes an answer token by token, as it is generated."""
        return AnswerParser(self.tok, None if tools is None else declare(tools))
