"""A rendered prompt taken apart into turns: role, body, and what ended it.

This reads only the frame that every template of Llama 3 shares, so that templates with their own
wording can be checked too. What does not fit the frame is named in a sentence.
"""

from dataclasses import dataclass

from puna.evals.conformance.segments import Control, Segments, merged
from puna.tokenizer.specials import (
    BEGIN_OF_TEXT,
    END_HEADER,
    END_OF_MESSAGE,
    END_OF_TURN,
    START_HEADER,
)

BOS = Control(BEGIN_OF_TEXT)
_START, _END = Control(START_HEADER), Control(END_HEADER)
_TERMINATORS = (Control(END_OF_TURN), Control(END_OF_MESSAGE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message of a prompt."""

    role: str
    body: Segments
    end: str | None  # None: the header of an answer to come


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A prompt taken apart."""

    begins: int  # how many begin-of-text tokens stand before the first turn
    turns: tuple[Turn, ...]
    trouble: str | None = None  # why it could not be taken apart to its end


def read_layout(segments: Segments) -> Layout:
    """Take a prompt apart."""
    begins = 0
    while begins < len(segments) and segments[begins] == BOS:
        begins += 1
    turns: list[Turn] = []
    at = begins
    while at < len(segments):
        head = segments[at : at + 4]
        role = head[1] if len(head) > 1 else ""
        if len(head) < 4 or head[0] != _START or not isinstance(role, str) or head[2] != _END:
            return _broken(begins, turns, f"{head[0]!s:.60} stands where a header should.")
        blank = head[3]
        if not isinstance(blank, str) or not blank.startswith("\n\n"):
            return _broken(begins, turns, f"no blank line follows the header of {role}.")
        body: list[str | Control] = [blank[2:]]
        at += 4
        while at < len(segments) and segments[at] not in (*_TERMINATORS, _START, BOS):
            body.append(segments[at])
            at += 1
        end = segments[at] if at < len(segments) else None
        if end in (_START, BOS):
            return _broken(begins, turns, f"the message of {role} has no terminator.")
        turns.append(Turn(role=role, body=merged(body), end=None if end is None else str(end)))
        at += 1
    return Layout(begins=begins, turns=tuple(turns))


def _broken(begins: int, turns: list[Turn], why: str) -> Layout:
    return Layout(begins=begins, turns=tuple(turns), trouble=f"after {len(turns)} messages {why}")
