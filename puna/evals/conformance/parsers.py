"""What can be asked to parse an answer: puna's own parser, or a program of anybody's.

A program reads one JSON object a line on stdin and writes one a line on stdout, in the same order
(the README beside the vectors tells the keys). It may refuse a line, and is not asked to stream
where it cannot.
"""

import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from puna.chat.format import ChatFormat
from puna.errors import RequestError, StateError
from puna.evals.conformance.renderers import Crash, Refusal
from puna.evals.conformance.segments import Segments, joined, to_ids, to_json
from puna.evals.conformance.shapes import BYTES

_SHOWN = 400  # characters of a program's own last words


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An answer to be parsed: whole, or in the pieces in which it is generated."""

    id: str
    answer: Segments
    chunks: tuple[Segments, ...] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    builtin_tools: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What a parser made of it."""

    content: str
    calls: tuple[tuple[str, Any], ...]
    finish_reason: str | None


Reply = Parsed | Refusal | Crash


class Parser(Protocol):
    """Reads answers."""

    @property
    def knows_controls(self) -> bool:
        """Whether it is given control tokens apart from texts that spell their names."""

    def parse(self, answers: Sequence[Said]) -> list[Reply]:
        """Read several answers; each stands for itself."""


class OwnParser:
    """puna's own parser, fed with ids of single bytes."""

    knows_controls = True

    def __init__(self) -> None:
        self._format = ChatFormat(BYTES, "meta")

    def parse(self, answers: Sequence[Said]) -> list[Reply]:
        """Read several answers."""
        return [self._one(said) for said in answers]

    def _one(self, said: Said) -> Parsed:
        parser = self._format.parser([*said.builtin_tools, *said.tools])
        for chunk in said.chunks if said.chunks is not None else (said.answer,):
            for token in to_ids(BYTES, chunk):
                parser.feed(token)
        message = parser.finish()
        return Parsed(
            content=message.content,
            calls=tuple((call.name, call.arguments) for call in message.tool_calls),
            finish_reason=message.finish_reason,
        )


class CommandParser:
    """A program that reads answers on stdin and writes what it found on stdout."""

    knows_controls = True

    def __init__(self, command: str, *, timeout_s: float = 120.0) -> None:
        self._words = shlex.split(command)
        self._timeout_s = timeout_s
        if not self._words:
            raise RequestError("conformance: the parser's command is empty; a program is expected.")

    def parse(self, answers: Sequence[Said]) -> list[Reply]:
        """Run the program once for all answers."""
        lines = "".join(json.dumps(to_line(said), ensure_ascii=False) + "\n" for said in answers)
        name = self._words[0]
        try:
            done = subprocess.run(
                self._words, input=lines.encode(), capture_output=True, timeout=self._timeout_s
            )
        except OSError as error:
            raise StateError(
                f"{name}: it cannot be run ({error.strerror}); a program is expected."
            ) from None
        except subprocess.TimeoutExpired:
            raise StateError(
                f"{name}: no end after {self._timeout_s:g} s; a program that answers every line of "
                "stdin and ends with it is expected. Give it more time (--timeout-s)."
            ) from None
        rows = done.stdout.decode("utf-8", "replace").splitlines()
        if done.returncode != 0 or len(rows) != len(answers):
            words = done.stderr.decode("utf-8", "replace").strip()[-_SHOWN:]
            raise StateError(
                f"{name}: {len(rows)} lines came back and it ended with {done.returncode}; "
                f"{len(answers)} lines and 0 are expected. It said: {words or 'nothing'}"
            )
        return [_from_line(row) for row in rows]


def to_line(said: Said) -> dict[str, Any]:
    """Return an answer as a program is given it."""
    line: dict[str, Any] = {"id": said.id, "answer": to_json(said.answer)}
    line["text"] = joined(said.answer)
    if said.chunks is not None:
        line["chunks"] = [to_json(chunk) for chunk in said.chunks]
    return line | {"tools": list(said.tools), "builtin_tools": list(said.builtin_tools)}


def _from_line(row: str) -> Reply:
    try:
        given = json.loads(row)
    except ValueError as error:
        return Crash(f"no JSON ({error}): {row[:80]!r}")
    if not isinstance(given, dict):
        return Crash(f"no JSON object: {row[:80]!r}")
    if "refused" in given:
        return Refusal(str(given["refused"]))
    return read_message(given, given.get("finish_reason"))


def read_message(given: Mapping[str, Any], finish_reason: Any) -> Parsed | Crash:
    """Read a message with calls, flat or as OpenAI nests them."""
    calls: list[tuple[str, Any]] = []
    listed = given.get("tool_calls") or []
    for call in listed if isinstance(listed, list) else [None]:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            return Crash(f"no tool call: {str(call)[:80]}")
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except ValueError:
                return Crash(f"arguments that are no JSON: {arguments[:80]!r}")
        calls.append((function["name"], arguments))
    content = given.get("content")
    if content is not None and not isinstance(content, str):
        return Crash(f"content is {type(content).__name__}; text is expected.")
    return Parsed(content=content or "", calls=tuple(calls), finish_reason=finish_reason)
