"""The answer vectors on a server whose model says what it is told: a hook for its authors.

No request can make a model say a given thing. A server may offer, for tests alone, a field
`scripted_answer` in the body of a chat completion: segments that take the place of the sampled
tokens, while detokenizer, parser, stream and stop reasons do their work as ever. The suite finds
out whether a server has it by asking for a word that nobody else would say.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from puna.evals.conformance.client import Client
from puna.evals.conformance.completions import Choice, Malformed, read_completion, read_stream
from puna.evals.conformance.parsers import Parsed, Reply, Said
from puna.evals.conformance.renderers import Crash, Refusal
from puna.evals.conformance.segments import to_json

FIELD = "scripted_answer"
_PATH = "/chat/completions"
_CODE, _QUERY = "code", "query"


@dataclass(slots=True)
class ScriptedServer:
    """The parser of a server, fed through the hook."""

    client: Client
    model: str
    knows_controls = True

    def parse(self, answers: Sequence[Said]) -> list[Reply]:
        """Have every answer said; an answer in pieces is streamed, once for all ways to cut it."""
        streamed: dict[str, Reply] = {}
        replies: list[Reply] = []
        for said in answers:
            if said.chunks is None:
                replies.append(self._whole(said))
                continue
            name = said.id.partition("/")[0]
            if name not in streamed:
                streamed[name] = self._streamed(said)
            replies.append(streamed[name])
        return replies

    def is_offered(self) -> bool:
        """Whether the server says what it is told."""
        nonce = f"nonce-{secrets.token_hex(8)}"
        body = self._body(Said(id="hook", answer=(nonce,)))
        try:
            return read_completion(self.client.post(_PATH, body)).choices[0].content == nonce
        except Malformed:
            return False

    def _body(self, said: Said) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": 4096,
            FIELD: to_json(said.answer),
        }
        tools = [*map(_as_function, said.builtin_tools), *said.tools]
        return body | ({"tools": tools} if tools else {})

    def _whole(self, said: Said) -> Reply:
        answer = self.client.post(_PATH, self._body(said))
        if answer.status in (400, 422):
            return Refusal(answer.says)
        try:
            return _parsed(read_completion(answer).choices[0])
        except Malformed as error:
            return Crash(str(error))

    def _streamed(self, said: Said) -> Reply:
        events = self.client.stream(_PATH, self._body(said))
        if events.answer.status in (400, 422):
            return Refusal(events.answer.says)
        try:
            return _parsed(read_stream(events, asks_usage=False).choices[0])
        except Malformed as error:
            return Crash(str(error))


def _parsed(choice: Choice) -> Parsed:
    return Parsed(
        content=choice.content,
        calls=tuple((name, json.loads(arguments)) for name, arguments in choice.calls),
        finish_reason=choice.finish_reason,
    )


def _as_function(name: str) -> dict[str, Any]:
    """Declare a built-in tool in OpenAI's way, which knows functions alone."""
    argument = _CODE if name == "code_interpreter" else _QUERY
    parameters = {"type": "object", "properties": {argument: {"type": "string"}}}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}
