"""The pieces that the page is made of: sections, tables, bars, intervals.

Everything that comes from a run is escaped here or by the caller that builds a cell; parameters
called `*_html` take finished HTML.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

Table = Mapping[str, Any]


def section(title: str, body_html: str, *, note: str = "") -> str:
    """Return a titled section; its note stands under the title."""
    about = f'<p class="note">{escape(note)}</p>' if note else ""
    name = "-".join(title.lower().split())
    return (
        f'<section aria-labelledby="{name}"><h2 id="{name}">{escape(title)}</h2>'
        f"{about}{body_html}</section>"
    )


def card(title: str, body_html: str, *, note: str = "") -> str:
    """Return a boxed part of a section."""
    about = f'<p class="note">{escape(note)}</p>' if note else ""
    return f'<article class="card"><h3>{escape(title)}</h3>{body_html}{about}</article>'


def grid(cards: Sequence[str]) -> str:
    """Return cards side by side where there is room."""
    return f'<div class="grid">{"".join(cards)}</div>'


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str) -> str:
    """Return a table; the first cell of each row names the row. Cells are finished HTML."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )  # fmt: skip
    return (
        f'<div class="scroll"><table><caption class="unseen">{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def bar(share: float, *, series: int = 1) -> str:
    """Return a bar of a share of the width. The number stands beside it, so it is decoration."""
    width = 100 * min(1.0, max(0.0, share))
    return (
        f'<span class="bar" aria-hidden="true"><i style="width:{width:.2f}%;'
        f'background:var(--c{series})"></i></span>'
    )


def interval(score: Table) -> str:
    """Return a share with its interval: a dot on a band from 0 to 100 %."""
    low, high, value = (100 * float(score[key]) for key in ("low", "high", "value"))
    return (
        f'<span class="band" aria-hidden="true"><i style="left:{low:.2f}%;'
        f'width:{max(high - low, 0.5):.2f}%"></i><b style="left:{value:.2f}%"></b></span>'
        f'<span class="reading">{value:.1f}&nbsp;% <small>{low:.1f} to {high:.1f}, '
        f"n&nbsp;=&nbsp;{score['n']:,}</small></span>"
    )


def definition_list(pairs: Sequence[tuple[str, str]]) -> str:
    """Return terms and their descriptions; descriptions are finished HTML."""
    inside = "".join(f"<div><dt>{escape(a)}</dt><dd>{b}</dd></div>" for a, b in pairs)
    return f"<dl>{inside}</dl>"
