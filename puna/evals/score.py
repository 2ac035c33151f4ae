"""A score: one number, how sure it is, and what it was measured on.

Every evaluation returns these; `puna.report` prints them and reads nothing else of an evaluation.
A score that could not be measured does not exist: there is no placeholder value.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from puna.errors import FormatError
from puna.evals.intervals import wilson
from puna.files import write_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The result of one evaluation, with a 95 % interval."""

    name: str  # "arithmetic.answer", "languages.de", "needle" ...
    value: float
    low: float
    high: float
    n: int  # what was counted: questions, documents
    unit: str  # "share" (0 to 1) or "bits per byte"
    better: Literal["higher", "lower"]
    detail: Mapping[str, Any] = field(default_factory=dict)  # plain JSON values

    def __post_init__(self) -> None:
        if not all(math.isfinite(number) for number in (self.value, self.low, self.high)):
            raise FormatError(
                f"score {self.name}: value {self.value}, interval {self.low} to {self.high}; "
                "finite numbers are expected. Check the model's weights."
            )

    def __str__(self) -> str:
        """Say the score in one line."""
        if self.unit == "share":
            return (
                f"{self.name}: {self.value:.1%} ({self.low:.1%} to {self.high:.1%}, n={self.n:,})"
            )
        return (
            f"{self.name}: {self.value:.3f} {self.unit} "
            f"({self.low:.3f} to {self.high:.3f}, n={self.n:,})"
        )


def share(name: str, right: int, n: int, detail: Mapping[str, Any] | None = None) -> Score:
    """Return the score of `right` of `n` questions answered rightly."""
    low, high = wilson(right, n)
    return Score(
        name=name,
        value=right / n,
        low=low,
        high=high,
        n=n,
        unit="share",
        better="higher",
        detail=detail or {},
    )


def write_scores(path: Path, scores: Iterable[Score]) -> None:
    """Write scores as `{"scores": [...]}`, the form that `puna.report` reads from `evals/`."""
    write_json(path, {"scores": [asdict(score) for score in scores]})
