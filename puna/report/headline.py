"""The card at the top: what was raised, how good it is, what it took."""

from collections.abc import Mapping
from html import escape
from typing import Any

from puna.report import quantities as q
from puna.report.facts import Facts

Table = Mapping[str, Any]


def headline(facts: Facts) -> str:
    """Return the tiles of the card. What was not measured says so."""
    return f'<div class="tiles">{"".join(_model(facts) + _quality(facts) + _effort(facts))}</div>'


def main_bits(facts: Facts) -> tuple[str, Table] | None:
    """Return source and score of the bits per byte that stand for the run: those of the pages."""
    found = {
        name.removeprefix("bits_per_byte").lstrip("."): score
        for name, score in facts.scores.items()
        if name.startswith("bits_per_byte")
    }
    if not found:
        return None
    source = next((name for name in ("general", "") if name in found), min(found))
    return source, found[source]


def needle_scores(facts: Facts, when: str, kind: str = "found") -> dict[int, Table]:
    """Return the scores of one needle test by prompt length. `when`: "before" or "after"."""
    start = f"needle.{when}.{kind}."
    return {
        int(name.removeprefix(start)): score
        for name, score in sorted(facts.scores.items())
        if name.startswith(start)
    }


def matrix_share(facts: Facts, phase: str) -> float | None:
    """Return the share of the measured matrix peak that a phase of training reached."""
    took = facts.phases.get(phase, {})
    speed, flops = took.get("tokens_per_s"), took.get("flops_per_token")
    if not (facts.matrix_peak and speed and flops):
        return None
    return float(speed) * float(flops) / facts.matrix_peak


def _tile(label: str, value_html: str, about_html: str = "", *, main: bool = False) -> str:
    about = f"<small>{about_html}</small>" if about_html else ""
    kind = ' class="main"' if main else ""
    return f"<div{kind}><span>{escape(label)}</span><strong>{value_html}</strong>{about}</div>"


def _model(facts: Facts) -> list[str]:
    shape = facts.shape or {}
    about = ""
    if shape:
        about = f"{shape['layers']} layers, {shape['width']} wide, {shape['vocab']:,} words"
    tokens = [took["tokens"] for took in facts.phases.values() if "tokens" in took]
    context = f"context of {shape['context']:,} tokens" if shape else ""
    return [
        _tile("Parameters", q.count(shape.get("parameters")), about, main=True),
        _tile("Training tokens", q.count(sum(tokens) if tokens else None), context, main=True),
    ]


def _quality(facts: Facts) -> list[str]:
    return [_bits(facts), _sums(facts), _words(facts), _needle(facts)]


def _bits(facts: Facts) -> str:
    found = main_bits(facts)
    if found is None:
        return _tile("Bits per byte, held-out", q.MISSING, main=True)
    source, score = found
    rivals = facts.compressors.get(source or "general", {})
    about = f"{score['low']:.2f} to {score['high']:.2f}"
    about += "".join(
        f"; {escape(name).replace(' ', '&nbsp;').replace('-', '&#8209;')}:&nbsp;{value:.2f}"
        for name, value in rivals.items()
    )
    label = "Bits per byte, held-out " + (source if source not in ("", "general") else "pages")
    return _tile(label, q.number(score["value"]), about, main=True)


def _sums(facts: Facts) -> str:
    score = facts.scores.get("arithmetic.answer")
    if score is None:
        return _tile("Sums right, by calculator", q.MISSING, main=True)
    return _tile("Sums right, by calculator", q.percent(score["value"]), _range(score), main=True)


def _words(facts: Facts) -> str:
    score = facts.scores.get("languages.numbers")
    names = facts.scores.get("languages.names")
    if score is None:
        return _tile("Number words right", q.MISSING)
    about = _range(score)
    if names is not None:
        about += f"; names {q.percent(names['value'])}"
    return _tile("Number words right", q.percent(score["value"]), about)


def _needle(facts: Facts) -> str:
    after, before = needle_scores(facts, "after"), needle_scores(facts, "before")
    if not after:
        return _tile("Needle found", q.MISSING)
    longest = max(after)
    value = q.percent(after[longest]["value"])
    about = f"at {longest:,} tokens, {_range(after[longest])}"
    if longest in before:
        about += f"; before the extension {q.percent(before[longest]['value'])}"
    return _tile("Needle found", value, about)


def _effort(facts: Facts) -> list[str]:
    seconds = [s["seconds"] for s in facts.stages.values() if s.get("seconds") is not None]
    peaks = [s["peak_memory_bytes"] for s in facts.stages.values() if s.get("peak_memory_bytes")]
    first = next(iter(facts.phases), "")
    speed = facts.phases.get(first, {}).get("tokens_per_s")
    energy = facts.energy or {}
    cores = (facts.machine or {}).get("cores")
    return [
        _tile("Time", q.duration(sum(seconds) if seconds else None),
              f"on {cores} cores" if cores else ""),
        _tile("Training speed", q.count(speed) + ("&nbsp;tokens/s" if speed else ""),
              f"in {escape(first)}" if speed else ""),
        _tile("Share of the matrix peak", q.percent(matrix_share(facts, first)),
              "of the peak measured in this run"),
        _tile("Peak memory", q.size(max(peaks, default=None))),
        _tile("Energy", _energy(energy.get("kwh")),
              escape(str(energy.get("how", "")).partition(":")[0].partition(" by ")[0])),
        _tile("Carbon", q.number(energy.get("grams_co2"), 1, "g CO₂")),
    ]  # fmt: skip


def _energy(kwh: float | None) -> str:
    if kwh is not None and kwh < 0.1:
        return q.number(kwh * 1000, 1, "Wh")
    return q.number(kwh, 2, "kWh")


def _range(score: Table) -> str:
    return f"{100 * score['low']:.0f} to {q.percent(score['high'])}"
