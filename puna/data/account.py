"""The account of one curation: what went in, what each stage removed and why, what came out.

`curate` fills it and writes it as `report.json`; the run's report card shows it. It holds no times
and no paths, so the same input gives the same file.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from puna.data.document import Document

_SAMPLES = 3  # removed documents that are shown for each reason
_SAMPLE_CHARS = 200


@dataclass(slots=True)
class CurateReport:
    """What went in, what each stage removed and why, and what came out; by source."""

    found: Counter[str] = field(default_factory=Counter)
    found_bytes: Counter[str] = field(default_factory=Counter)
    removed: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    samples: dict[str, list[dict[str, str]]] = field(default_factory=lambda: defaultdict(list))
    lines_dropped: Counter[str] = field(default_factory=Counter)
    heldout_lines_dropped: Counter[str] = field(default_factory=Counter)
    clean_bytes: Counter[str] = field(default_factory=Counter)
    train: Counter[str] = field(default_factory=Counter)
    train_bytes: Counter[str] = field(default_factory=Counter)
    heldout: Counter[str] = field(default_factory=Counter)
    heldout_bytes: Counter[str] = field(default_factory=Counter)
    limited_by: str | None = None
    unreadable: dict[str, str] = field(default_factory=dict)

    def remove(self, document: Document, reason: str) -> None:
        """Count a removed document and keep the beginning of the first few."""
        self.removed[document.source][reason] += 1
        samples = self.samples[f"{document.source}/{reason}"]
        if len(samples) < _SAMPLES:
            samples.append({"id": document.id, "text": document.text[:_SAMPLE_CHARS]})

    def reasons(self) -> str:
        """Say in one line how many documents each reason removed."""
        total = sum(self.removed.values(), Counter[str]())
        return ", ".join(f"{name} {count}" for name, count in total.most_common()) or "nothing"
