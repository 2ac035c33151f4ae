"""What became of a vector: passed, failed, refused, or skipped because it does not apply."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from puna.evals.conformance.vectors import Vector

Status = Literal["passed", "failed", "refused", "skipped"]
_AROUND = 24  # characters shown before the place where two texts part
_AFTER = 48  # and after it


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The verdict on one vector.

    `refused` is an answer of its own: the software said that it does not do this, and did nothing
    wrong. It counts neither for nor against.
    """

    id: str
    group: str
    status: Status
    detail: str = ""
    says: str = ""
    pitfalls: tuple[str, ...] = ()
    source: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All verdicts on one piece of software, and what was found out about it first."""

    subject: str
    facts: Mapping[str, str] = field(default_factory=dict)  # what it can, in the order it was asked
    outcomes: tuple[Outcome, ...]

    def count(self, status: Status) -> int:
        """Return how many vectors ended so."""
        return sum(outcome.status == status for outcome in self.outcomes)

    @property
    def is_well(self) -> bool:
        """Whether every vector that applies passed, and at least one did."""
        return self.count("failed") == 0 and self.count("passed") > 0

    def by_group(self) -> dict[str, Counter[str]]:
        """Count the verdicts of each group."""
        groups: dict[str, Counter[str]] = {}
        for outcome in self.outcomes:
            groups.setdefault(outcome.group, Counter())[outcome.status] += 1
        return groups


def judged(vector: Vector, status: Status, detail: str = "") -> Outcome:
    """Return the verdict on a vector."""
    return Outcome(
        id=vector.id,
        group=vector.group,
        status=status,
        detail=detail,
        says=vector.says,
        pitfalls=vector.pitfalls,
        source=vector.source,
    )


def verdict(vector: Vector, troubles: Iterable[str | None]) -> Outcome:
    """Pass the vector, or fail it with the first trouble."""
    trouble = next(filter(None, troubles), None)
    return judged(vector, "failed", trouble) if trouble else judged(vector, "passed")


def difference(expected: str, given: str) -> str | None:
    """Say where two texts part, in a sentence; None where they are equal."""
    if expected == given:
        return None
    pairs = zip(expected, given, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(expected), len(given)))
    start = max(0, at - _AROUND)
    right, wrong = expected[at : at + _AFTER], given[at : at + _AFTER]
    return (
        f"character {at}, after {expected[start:at]!r}: {wrong or 'the end'!r} given; "
        f"{right or 'the end'!r} is expected."
    )
