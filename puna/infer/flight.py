"""A step that is under way: what is read, what was guessed, and where its logits will come from.

One process has one flight at a time and lands it at once. Where the stages of a model lie on
several devices (`puna.infer.ranks`), the next step begins while the logits of this one are still
computed; a sequence that was ended or preempted in the meantime has another flight, or none, and
what was read for it counts no more.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from puna.infer.runner import Part
from puna.infer.scheduler import Turn
from puna.infer.speculative import Guesses


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """The turns of one step, and how to wait for their logits."""

    number: int
    turns: Sequence[Turn]
    guesses: Sequence[Guesses]
    parts: Sequence[Part]
    wait: Callable[[], Tensor]

    def land(self) -> Iterator[tuple[Turn, Guesses, Tensor]]:
        """Wait for the logits and yield those of every turn that still counts."""
        logits, at = self.wait(), 0
        for turn, guesses, part in zip(self.turns, self.guesses, self.parts, strict=True):
            rows = len(part.ids) if part.wants_all else 1
            if turn.sequence.flight == self.number:
                turn.sequence.flight = 0
                yield turn, guesses, logits[at : at + rows]
            at += rows


def part_of(turn: Turn, guesses: Guesses) -> Part:
    """Return what a sequence reads in its turn."""
    sequence = turn.sequence
    known = sequence.ids[sequence.held : sequence.held + turn.count]
    return Part(
        ids=[*known, *guesses],
        held=sequence.held,
        pages=tuple(sequence.pages),
        wants_all=bool(guesses) or turn.wants_all,
    )
