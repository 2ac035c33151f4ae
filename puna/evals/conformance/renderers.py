"""What can be asked to render a dialog: a jinja template, or puna's own renderer.

Every renderer answers a question with segments, refuses it with the reason that it gives, or
crashes. A server that shows its prompts is a third kind (`puna.evals.conformance.server_prompts`).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jinja2

from puna.chat.dates import short_date
from puna.chat.format import ChatFormat
from puna.chat.jinja import compile_template
from puna.chat.pieces import Prompt
from puna.errors import FormatError, NotFoundError, RequestError
from puna.evals.conformance.segments import Segments, from_ids, joined, split
from puna.evals.conformance.vectors import Question
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.specials import BEGIN_OF_TEXT, END_OF_TURN


@dataclass(frozen=True, slots=True)
class Refusal:
    """The software says that it does not do this."""

    reason: str


@dataclass(frozen=True, slots=True)
class Crash:
    """The software broke."""

    reason: str


Rendering = Segments | Refusal | Crash


@runtime_checkable
class Learner(Protocol):
    """A renderer that knows which part of a dialog a model is trained to say."""

    def learned(self, question: Question) -> str | Refusal:
        """Return what the loss is on, with the names of its control tokens."""


class Renderer(Protocol):
    """Turns dialogs into prompts."""

    @property
    def padding(self) -> str | None:
        """The token that fills short rows of a batch, where it is known."""

    @property
    def knows_controls(self) -> bool:
        """Whether its segments tell control tokens from their names in texts."""

    def render(self, question: Question) -> Rendering:
        """Render one dialog."""


class TemplateRenderer:
    """A chat template in jinja's sandbox, called as transformers calls it.

    Source: transformers, chat templates (names of the variables).
    """

    knows_controls = False

    def __init__(
        self,
        text: str,
        *,
        bos: str = BEGIN_OF_TEXT,
        eos: str = END_OF_TURN,
        padding: str | None = None,
    ) -> None:
        self._template = compile_template(text)
        self._bos, self._eos = bos, eos
        self.padding = padding

    def render(self, question: Question) -> Rendering:
        """Render one dialog; a raise_exception of the template is a refusal."""
        variables: dict[str, Any] = {
            "messages": json.loads(json.dumps(question.messages)),  # a copy: it is theirs to change
            "tools": [dict(tool) for tool in question.tools] or None,
            "add_generation_prompt": question.reply,
            "bos_token": self._bos,
            "eos_token": self._eos,
        }
        if question.builtin_tools:
            variables["builtin_tools"] = list(question.builtin_tools)
        if question.date is not None:
            variables["date_string"] = short_date(question.date)
        if not question.tools_in_user:
            variables["tools_in_user_message"] = False
        try:
            return split(self._template.run(question.date, variables))
        except RequestError as error:
            # `raise_exception` raises this very class; jinja's own failures are children of it.
            if type(error.__cause__) is jinja2.TemplateError:
                return Refusal(str(error.__cause__))
            return Crash(f"{type(error.__cause__).__name__}: {error.__cause__}")


class FormatRenderer:
    """puna's own renderer in one of its dialects."""

    knows_controls = True

    def __init__(self, tok: Tokenizer, dialect: str) -> None:
        self._tok = tok
        by_id = {number: name for name, number in tok.specials.items()}
        self.padding = None if tok.pad_id is None else by_id.get(tok.pad_id)
        self._formats = {
            in_user: ChatFormat(tok, dialect, tools_in="user" if in_user else "system")
            for in_user in (True, False)
        }

    def render(self, question: Question) -> Rendering:
        """Render one dialog."""
        ids = self.ids(question)
        return ids if isinstance(ids, Refusal) else from_ids(self._tok, ids)

    def ids(self, question: Question) -> list[int] | Refusal:
        """Render one dialog to ids."""
        prompt = self._prompt(question)
        return prompt if isinstance(prompt, Refusal) else prompt.ids

    def learned(self, question: Question) -> str | Refusal:
        """Return what the loss is on, with the names of its control tokens."""
        prompt = self._prompt(question)
        if isinstance(prompt, Refusal):
            return prompt
        masked = zip(prompt.ids, prompt.loss_mask, strict=True)
        return joined(from_ids(self._tok, [token for token, is_learned in masked if is_learned]))

    def _prompt(self, question: Question) -> Prompt | Refusal:
        try:
            return self._formats[question.tools_in_user].render(
                question.messages,
                [*question.builtin_tools, *question.tools],
                question.date,
                reply=question.reply,
            )
        except RequestError as error:
            return Refusal(str(error))


def open_template(path: Path | str) -> TemplateRenderer:
    """Open a template: its own file, a tokenizer_config.json, a model folder, or a .gguf file."""
    path = Path(path)
    if not path.exists():
        raise NotFoundError(
            f"{path}: no such file; a jinja template, a tokenizer_config.json, a model folder or "
            "a .gguf file is expected."
        )
    if path.suffix == ".gguf":
        from puna.checkpoint.open import open_checkpoint

        return _with_template(path, open_checkpoint(path).chat_template, {})
    if path.is_dir():
        own, config = path / "chat_template.jinja", path / "tokenizer_config.json"
        given = _read_json(config) if config.exists() else {}
        text = own.read_text("utf-8") if own.exists() else given.get("chat_template")
        return _with_template(path, text, given)
    if path.suffix == ".json":
        given = _read_json(path)
        return _with_template(path, given.get("chat_template"), given)
    return TemplateRenderer(path.read_text("utf-8"))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        given = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise FormatError(f"{path}: no JSON ({error}); a JSON object is expected.") from None
    if not isinstance(given, dict):
        raise FormatError(f"{path}: {type(given).__name__} given; a JSON object is expected.")
    return given


def _with_template(path: Path, text: Any, config: dict[str, Any]) -> TemplateRenderer:
    if isinstance(text, list):  # several templates, each with its name
        named = {item.get("name"): item.get("template") for item in text if isinstance(item, dict)}
        text = named.get("tool_use") or named.get("default")
    if not isinstance(text, str):
        raise FormatError(
            f"{path}: no chat_template in it; a template is expected. Give the template's own file."
        )
    bos, eos = _token(config.get("bos_token")), _token(config.get("eos_token"))
    padding = _token(config.get("pad_token"))
    return TemplateRenderer(text, bos=bos or BEGIN_OF_TEXT, eos=eos or END_OF_TURN, padding=padding)


def _token(given: Any) -> str | None:
    text = given.get("content") if isinstance(given, dict) else given
    return text if isinstance(text, str) else None
