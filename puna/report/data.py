"""What the model read: the mixture, and what curation removed and why."""

from collections import Counter
from collections.abc import Mapping
from html import escape
from typing import Any

from puna.report import quantities as q
from puna.report.facts import Facts
from puna.report.parts import bar, card, grid, section, table

_REASONS = 14  # the most common ones are shown; the rest is summed


def data(facts: Facts) -> str | None:
    """Return mixture and removals, None where nothing was curated."""
    report = facts.curated
    if not report:
        return None
    cards = [_mixture(report), _tokens(facts), _removed(report)]
    return section("Data", grid([c for c in cards if c]))


def _mixture(report: Mapping[str, Any]) -> str:
    train: Mapping[str, int] = report.get("train_bytes") or {}
    total = sum(train.values())
    rows = [
        [
            escape(source),
            bar(size / total if total else 0, series=1) + q.percent(size / total, 1),
            q.size(size),
            _count(report, "found", source),
            _count(report, "train", source),
            _count(report, "heldout", source),
        ]
        for source, size in sorted(train.items(), key=lambda item: -item[1])
    ]
    heads = ("", "share", "training text", "found", "kept", "held out")
    limited = report.get("limited_by")
    note = f"The mixture is limited by {limited}." if limited else ""
    return card("Mixture", table(heads, rows, caption="Mixture of the data by source"), note=note)


def _tokens(facts: Facts) -> str | None:
    """Show what pretraining reads, in tokens of the model that is raised."""
    counts: Mapping[str, int] = facts.stages.get("pack", {}).get("facts", {}).get("sources") or {}
    total = sum(counts.values())
    if not total:
        return None
    rows = [
        [
            escape(source),
            bar(count / total, series=2) + q.percent(count / total, 1),
            f"{count:,}",
        ]
        for source, count in sorted(counts.items(), key=lambda item: -item[1])
    ]
    note = "recall: general text with facts in it that are asked for at its end" * (
        "recall" in counts
    )
    heads = ("", "share of the tokens", "tokens")
    return card("Pretraining tokens", table(heads, rows, caption="Tokens by source"), note=note)


def _removed(report: Mapping[str, Any]) -> str | None:
    total: Counter[str] = Counter()
    for reasons in (report.get("removed") or {}).values():
        total.update(reasons)
    if not total:
        return None
    shown = total.most_common(_REASONS)
    rest = sum(total.values()) - sum(count for _, count in shown)
    rows = [(reason.replace("_", " "), count) for reason, count in shown]
    rows += [("other reasons", rest)] * bool(rest)
    most = max(count for _, count in rows)
    cells = [[escape(name), bar(count / most, series=4) + f"{count:,}"] for name, count in rows]
    lines = sum((report.get("lines_dropped") or {}).values())
    note = f"Besides, {lines:,} repeated lines were cut out of documents that stayed." * bool(lines)
    return card(
        "Removed documents",
        table(("reason", "documents"), cells, caption="Removed documents by reason"),
        note=note,
    )


def _count(report: Mapping[str, Any], group: str, source: str) -> str:
    return q.number((report.get(group) or {}).get(source), 0)
