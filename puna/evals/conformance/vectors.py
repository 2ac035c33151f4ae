"""The vectors: what is asked, what is right, which bug of others it guards against, and its source.

They lie beside this file as JSON lines, with a schema and a README, so that other software can use
them without puna. Here they become objects; nothing else in the suite reads the files.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date as Date
from importlib import resources
from typing import Any

from puna.errors import RequestError

GROUPS = ("prompts", "injection", "answers", "requests")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """One question with its right answer."""

    id: str
    group: str
    pitfalls: tuple[str, ...]
    source: tuple[str, ...]
    says: str
    needs: tuple[str, ...]
    input: Mapping[str, Any]
    expect: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A dialog to be rendered, with everything that a request says beside it."""

    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    builtin_tools: tuple[str, ...] = ()
    date: Date | None = None
    reply: bool = True
    tools_in_user: bool = True


def load(group: str) -> list[Vector]:
    """Return the vectors of one group, in their order."""
    if group not in GROUPS:
        raise RequestError(f"conformance: no group {group!r}; known are {', '.join(GROUPS)}.")
    text = resources.files(__package__).joinpath("vectors", f"{group}.jsonl").read_text("utf-8")
    return [_vector(json.loads(line)) for line in text.splitlines()]


def _vector(row: Mapping[str, Any]) -> Vector:
    return Vector(
        id=row["id"],
        group=row["group"],
        pitfalls=tuple(row["pitfalls"]),
        source=tuple(row["source"]),
        says=row["says"],
        needs=tuple(row.get("needs", ())),
        input=_written_out(row["input"]),
        expect=_written_out(row["expect"]),
    )


def _written_out(value: Any) -> Any:
    """Write out the long texts: `{"runs": [["a", 1], [" ", 30000]]}` says how often each stands."""
    if isinstance(value, dict):
        if value.keys() == {"runs"}:
            return "".join(text * count for text, count in value["runs"])
        return {key: _written_out(item) for key, item in value.items()}
    return [_written_out(item) for item in value] if isinstance(value, list) else value


def question(given: Mapping[str, Any], *, date: str | None = None) -> Question:
    """Read the input of a prompt vector; `date` stands in place of the input's own."""
    day = date or given.get("date")
    return Question(
        messages=tuple(given["messages"]),
        tools=tuple(given.get("tools", ())),
        builtin_tools=tuple(given.get("builtin_tools", ())),
        date=Date.fromisoformat(day) if day else None,
        reply=given.get("add_generation_prompt", True),
        tools_in_user=given.get("options", {}).get("tools_in_user_message", True),
    )
