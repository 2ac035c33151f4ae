"""One server under test: what is known about it, and what it has said so far."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from puna.evals.conformance.client import Answer, Client
from puna.evals.conformance.completions import (
    Completion,
    Malformed,
    read_completion,
    read_stream,
)
from puna.evals.conformance.vectors import Vector

CHAT = "/chat/completions"
TEXT = "/completions"


class Refused(Exception):  # noqa: N818  (a verdict, not an error of puna)
    """The server says that it does not do what is optional."""


class Inconclusive(Exception):  # noqa: N818  (a verdict, not an error of puna)
    """The server's answers do not allow a verdict."""


@dataclass(slots=True)
class Session:
    """One server under test."""

    client: Client
    model: str
    context: int | None = None  # tokens, where the server tells
    said: list[str] = field(default_factory=list)  # contents of answers to harmless requests

    def body(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return a body with the model in it."""
        return {"model": self.model, **given}

    def complete(self, vector: Vector, body: Mapping[str, Any]) -> Completion:
        """Send a body to the path of a vector and read the completion.

        Raises:
            Malformed: what came back is none.
            Refused: the request is optional, and the server refuses it.
        """
        path = vector.input.get("path", CHAT)
        answer = self.client.post(path, self.body(body))
        _refuse_optional(vector, answer)
        done = read_completion(answer, is_text=path == TEXT)
        return self._remember(vector, done)

    def stream(
        self, vector: Vector, body: Mapping[str, Any], *, asks_usage: bool = False
    ) -> Completion:
        """Do the same in a stream."""
        path = vector.input.get("path", CHAT)
        events = self.client.stream(path, self.body(body))
        _refuse_optional(vector, events.answer)
        done = read_stream(events, asks_usage=asks_usage, is_text=path == TEXT)
        return self._remember(vector, done)

    def prompt_tokens(self, vector: Vector, body: Mapping[str, Any]) -> int:
        """Return the length of a prompt, as the server counts it."""
        count = self.complete(vector, body).prompt_tokens
        if count is None:
            raise Inconclusive("the server does not count tokens")
        return count

    def _remember(self, vector: Vector, done: Completion) -> Completion:
        """Keep what was said, except where the request itself spoke of control tokens."""
        if vector.input["check"] != "text_stays_text":
            self.said += [choice.content for choice in done.choices]
        return done


def _refuse_optional(vector: Vector, answer: Answer) -> None:
    if vector.input.get("optional") and (400 <= answer.status < 500 or answer.status == 501):
        raise Refused(answer.says)


__all__ = ["CHAT", "TEXT", "Inconclusive", "Malformed", "Refused", "Session"]
