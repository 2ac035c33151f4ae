"""What the model was asked on data that training never saw, and how it answered."""

from collections.abc import Mapping
from html import escape
from typing import Any

from puna.evals.vocabulary import LANGUAGES
from puna.report import quantities as q
from puna.report.facts import Facts
from puna.report.headline import needle_scores
from puna.report.parts import bar, card, grid, interval, section, table

Table = Mapping[str, Any]

OPERATIONS = {"+": "Sums", "-": "Differences", "*": "Products", "/": "Quotients"}


def scores(facts: Facts) -> str | None:
    """Return every evaluation there is, None where there is none."""
    cards = [c for c in (_bits(facts), _sums(facts), _languages(facts), _others(facts)) if c]
    return (
        section(
            "Evaluation",
            grid(cards),
            note="On documents and numbers kept from training. Intervals hold 95 %: Wilson's for "
            "shares, bootstrapped by document for bits per byte.",
        )
        if cards
        else None
    )


def needles(facts: Facts) -> str | None:
    """Return the heat maps of length and depth, before and after the extension."""
    cards = []
    for when, title in (("before", "Before the extension"), ("after", "After the extension")):
        found = needle_scores(facts, when)
        if found:
            cards.append(card(title, _heat_map(found, needle_scores(facts, when, "chosen"))))
    if not cards:
        return None
    return section(
        "Needle in a haystack",
        grid(cards),
        note="Somebody's family name is told at a depth of a text and asked for at its end. Found: "
        "greedy decoding writes it exactly. Chosen: it is likelier than eight others.",
    )


def _bits(facts: Facts) -> str | None:
    found = {n: s for n, s in facts.scores.items() if n.startswith("bits_per_byte")}
    if not found:
        return None
    parts = []
    for name, score in found.items():
        source = name.removeprefix("bits_per_byte").lstrip(".") or "all"
        rivals = facts.compressors.get(source, {})
        most = max(float(score["high"]), *rivals.values(), 1e-9)
        spread = f" <small>({score['low']:.3f} to {score['high']:.3f})</small>"
        rows = [["this model", bar(score["value"] / most) + f"{score['value']:.3f}{spread}"]]
        rows += [[escape(r), bar(v / most, series=4) + f"{v:.3f}"] for r, v in rivals.items()]
        size = (score.get("detail") or {}).get("bytes")
        about = f" <small>{score['n']:,} documents, {q.size(size)}</small>" if size else ""
        heading = "Pages" if source == "general" else source.capitalize()
        parts.append(f"<h4>{escape(heading)}{about}</h4>")
        parts.append(table(("", "bits per byte"), rows, caption=f"Bits per byte of {source}"))
    return card(
        "Bits per byte",
        "".join(parts),
        note="Lower is better. The compressors get the same bytes as one stream and learn from all "
        "that went before; the model begins each document anew.",
    )


def _sums(facts: Facts) -> str | None:
    answer, call = (facts.scores.get(f"arithmetic.{kind}") for kind in ("answer", "call"))
    if answer is None:
        return None
    rows = [["Right answer", interval(answer)]]
    if call is not None:
        rows.append(["Right call", interval(call)])
    by_operator = (answer.get("detail") or {}).get("by_operator", {})
    for sign in sorted(by_operator, key="+-*/".find):
        counts = by_operator[sign]
        share = counts["right"] / counts["n"] if counts["n"] else 0.0
        label = f"{OPERATIONS.get(sign, escape(sign))} <small>{escape(sign)}</small>"
        rows.append([label, bar(share) + f"{counts['right']:,} of {counts['n']:,}"])
    return card(
        "Sums with unseen numbers",
        table(("", "share"), rows, caption="Arithmetic through the calculator") + _wrong(answer),
        note="The question's numbers never occurred in training. The model writes the call, the "
        "calculator computes, the model writes the answer.",
    )


def _languages(facts: Facts) -> str | None:
    rows = []
    for code, language in LANGUAGES.items():
        score = facts.scores.get(f"languages.{code}")
        if score is None:
            continue
        detail = score.get("detail") or {}
        cells = [_of(detail.get(kind)) for kind in ("numbers", "names")]
        rows.append([f"{language} <small>{code}</small>", *cells, interval(score)])
    if not rows:
        return None
    for kind, label in (("numbers", "All numbers"), ("names", "All names")):
        score = facts.scores.get(f"languages.{kind}")
        if score is not None:
            rows.append([label, "", "", interval(score)])
    return card(
        "Words in eight languages",
        table(("", "numbers", "names", "share right"), rows, caption="Right words by language"),
        note="Number words are asked for numbers that training never spelled out. Names follow no "
        "rule: all were taught, and are asked for in a phrasing that training never used.",
    )


def _others(facts: Facts) -> str | None:
    """Show scores that no other card shows, so that none is hidden."""
    known = ("bits_per_byte", "arithmetic.", "languages.", "needle.before.", "needle.after.")
    rest = [s for name, s in sorted(facts.scores.items()) if not name.startswith(known)]
    if not rest:
        return None
    rows = [
        [
            escape(str(s["name"])),
            interval(s) if s["unit"] == "share" else f"{s['value']:.3f} {escape(str(s['unit']))}",
        ]
        for s in rest
    ]
    return card("Other scores", table(("", "score"), rows, caption="Other scores"))


def _heat_map(found: Mapping[int, Table], chosen: Mapping[int, Table]) -> str:
    depths = list(next(iter(found.values()))["detail"]["by_depth"])
    lengths = sorted(found)
    rows = []
    for depth in depths:
        cells = [f"{100 * float(depth):.0f}&nbsp;%"]
        for length in lengths:
            cells.append(_cell(found[length]["detail"]["by_depth"].get(depth)))
        rows.append(cells)
    heat = table(
        ("depth", *(f"{length:,}" for length in lengths)),
        rows,
        caption="Share of needles found by depth and prompt length in tokens",
    ).replace("<table>", '<table class="heat">')
    totals = [
        [f"{length:,} tokens", interval(found[length]), interval(chosen[length])]
        for length in lengths
        if length in chosen
    ]
    context = found[lengths[0]]["detail"].get("context")
    about = f'<p class="note">Context of the model: {context:,} tokens.</p>' if context else ""
    return heat + about + table(("", "found", "chosen"), totals, caption="Needles by prompt length")


def _cell(counts: Table | None) -> str:
    if not counts or not counts["n"]:
        return q.MISSING
    share = counts["right"] / counts["n"]
    return f'<span class="cell" style="--v:{100 * share:.0f}%">{q.percent(share)}</span>'


def _wrong(score: Table) -> str:
    examples = (score.get("detail") or {}).get("wrong", ())
    if not examples:
        return ""
    items = "".join(
        f"<li>{escape(str(e['question']))} &rarr; {escape(str(e['answer']) or 'nothing')} "
        f"<small>(expected {escape(str(e['expected']))})</small></li>"
        for e in examples
    )
    return f"<details><summary>Wrong answers</summary><ul>{items}</ul></details>"


def _of(counts: Table | None) -> str:
    return f"{counts['right']} of {counts['n']}" if counts and counts["n"] else "&ndash;"
