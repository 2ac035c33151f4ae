"""The prompts of a server, where it shows them: then they are judged like those of a template.

Two ways are known. vLLM's `/tokenize` takes a dialog and gives ids with their names, so control
tokens are told from texts; llama.cpp's `/apply-template` gives the text. puna's server answers the
first.

Source: vLLM, OpenAI-compatible server, tokenizer API; llama.cpp, server README, apply-template.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from puna.chat.dates import short_date
from puna.evals.conformance.client import Answer, Client
from puna.evals.conformance.renderers import Crash, Refusal, Renderer, Rendering
from puna.evals.conformance.segments import NAMES, Control, Segments, merged, split
from puna.evals.conformance.vectors import Question
from puna.tokenizer.specials import BEGIN_OF_TEXT

_HELLO = Question(messages=({"role": "user", "content": "Hi"},))


def find_prompts(client: Client, model: str) -> tuple[Renderer | None, str]:
    """Return how a server shows its prompts, and the name of the way."""
    ways: tuple[tuple[Renderer, str], ...] = (
        (_Tokens(client, model), "/tokenize"),
        (_Text(client, model), "/apply-template"),
    )
    for renderer, name in ways:
        if not isinstance(renderer.render(_HELLO), Refusal | Crash):
            return renderer, name
    return None, "no"


def request_of(asked: Question, model: str) -> dict[str, Any]:
    """Return a question as a request; vLLM and llama.cpp take what is not OpenAI's beside it."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [_wire(message) for message in asked.messages],
        "add_generation_prompt": asked.reply,
    }
    if asked.tools:
        body["tools"] = list(asked.tools)
    extra: dict[str, Any] = {}
    if asked.builtin_tools:
        extra["builtin_tools"] = list(asked.builtin_tools)
    if asked.date is not None:
        extra["date_string"] = short_date(asked.date)
    if not asked.tools_in_user:
        extra["tools_in_user_message"] = False
    return body | ({"chat_template_kwargs": extra} if extra else {})


def _wire(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message with the arguments of its calls as text, as OpenAI sends them."""
    if not message.get("tool_calls"):
        return dict(message)
    calls = []
    for call in message["tool_calls"]:
        arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
        calls.append({**call, "function": {**call["function"], "arguments": arguments}})
    return {**message, "tool_calls": calls}


class _Tokens:
    knows_controls = True
    padding = None

    def __init__(self, client: Client, model: str) -> None:
        self._client, self._model = client, model
        self._texts: dict[tuple[int, ...], str | None] = {}

    def render(self, question: Question) -> Rendering:
        body = request_of(question, self._model) | {"return_token_strs": True}
        answer = self._client.post_root("/tokenize", body)
        if trouble := _trouble(answer):
            return trouble
        given = answer.body if isinstance(answer.body, dict) else {}
        ids, names = given.get("tokens"), given.get("token_strs")
        if not (isinstance(ids, list) and isinstance(names, list) and len(ids) == len(names) > 0):
            return Crash(f"/tokenize answered {answer.text[:80]!r}; tokens and token_strs expected")
        return self._segments(ids, names)

    def _segments(self, ids: Sequence[int], names: Sequence[str]) -> Segments | Crash:
        parts: list[str | Control] = []
        run: list[int] = []
        for token, name in [*zip(ids, names, strict=True), (-1, "")]:
            if token >= 0 and name not in NAMES:
                run.append(token)
                continue
            text = self._text(tuple(run)) if run else ""
            if text is None:
                return Crash("/detokenize does not give the text of tokens back")
            parts += [text, Control(name)] if token >= 0 else [text]
            run = []
        return merged(parts)

    def _text(self, ids: tuple[int, ...]) -> str | None:
        if ids not in self._texts:
            body = {"model": self._model, "tokens": list(ids)}
            given = self._client.post_root("/detokenize", body).body
            text = given.get("prompt") if isinstance(given, dict) else None
            self._texts[ids] = text if isinstance(text, str) else None
        return self._texts[ids]


class _Text:
    """llama.cpp cuts a begin-of-text that its tokenizer writes; here it stands before the text."""

    knows_controls = False
    padding = None

    def __init__(self, client: Client, model: str) -> None:
        self._client, self._model = client, model

    def render(self, question: Question) -> Rendering:
        answer = self._client.post_root("/apply-template", request_of(question, self._model))
        if trouble := _trouble(answer):
            return trouble
        text = answer.body.get("prompt") if isinstance(answer.body, dict) else None
        if not isinstance(text, str):
            return Crash("/apply-template gave no prompt")
        return split(text if text.startswith(BEGIN_OF_TEXT) else BEGIN_OF_TEXT + text)


def _trouble(answer: Answer) -> Refusal | Crash | None:
    if answer.status == 200:
        return None
    return Refusal(answer.says) if 400 <= answer.status < 500 else Crash(answer.says)
