"""Curves of a run as SVG that stands in the page: its colours follow the page, light or dark.

matplotlib draws with placeholder colours, which become CSS variables; text stays text, so that it
can be read aloud, searched and printed sharply.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from puna.errors import ExtraError

Table = Mapping[str, Any]

# Placeholder colours and the CSS variables that replace them.
INK, GRID = "#010101", "#010102"
SERIES = ("#010103", "#010104", "#010105", "#010106")
_VARIABLES = {
    INK: "var(--soft)",
    GRID: "var(--line)",
    SERIES[0]: "var(--c1)",
    SERIES[1]: "var(--c2)",
    SERIES[2]: "var(--c3)",
    SERIES[3]: "var(--c4)",
}

_SMOOTH = 40  # points of the bold curve: each the mean of that share of a phase's steps


def curve(
    phases: Mapping[str, Sequence[Table]],
    key: str,
    *,
    label: str,
    title: str,
    logarithmic: bool = False,
) -> str | None:
    """Draw one quantity over all training tokens, a colour for each phase; None without data."""
    plotted = {name: _points(rows, key) for name, rows in phases.items()}
    plotted = {name: points for name, points in plotted.items() if points}
    if not plotted:
        return None

    def draw(axes: Any) -> None:
        before = 0.0
        for index, (name, points) in enumerate(plotted.items()):
            color = SERIES[index % len(SERIES)]
            xs = [(before + tokens) / 1e6 for tokens, _ in points]
            ys = [value for _, value in points]
            if len(points) > 2 * _SMOOTH:
                axes.plot(xs, ys, color=color, linewidth=0.7, alpha=0.3)
                xs, ys = _means(xs), _means(ys)
            axes.plot(xs, ys, color=color, linewidth=2, label=name)
            before += points[-1][0]
        axes.set_xlabel("million tokens")
        axes.set_ylabel(label)
        if logarithmic:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        if len(plotted) > 1:
            axes.legend(frameon=False, labelcolor=INK, fontsize=9)

    ends = "; ".join(f"{name} ends at {points[-1][1]:.3g}" for name, points in plotted.items())
    return figure(draw, title=f"{title}: {ends}", name=key)


def figure(draw: Callable[[Any], None], *, title: str, name: str) -> str:
    """Return an SVG of one pair of axes, described by `title`."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ExtraError("the report needs the extra `report`: pip install 'puna[report]'.") from (
            error
        )
    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,  # the same run gives the same page, and no id occurs twice
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": GRID,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.grid": True,
        "grid.color": GRID,
        "grid.linewidth": 0.7,
    }
    with matplotlib.rc_context(settings):
        drawing = Figure(figsize=(5.4, 3.0), layout="constrained")
        axes = drawing.subplots()
        draw(axes)
        raw = io.StringIO()
        drawing.savefig(raw, format="svg", transparent=True, metadata={"Date": None})
    return themed(raw.getvalue(), title=title, name=name)


def themed(svg: str, *, title: str, name: str) -> str:
    """Make matplotlib's SVG a part of the page: fluid, described, coloured by CSS variables."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, variable)
    svg = re.sub(r"font: [^;\"]*?(\d+(?:\.\d+)?)px[^;\"]*", r"font-size: \1px", svg)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    box = re.search(r'viewBox="[^"]+"', svg)
    assert box is not None
    inside = svg[svg.index(">") + 1 :]
    label = escape(title, quote=True)
    return (
        f'<svg role="img" aria-label="{label}" {box[0]} xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink"><title>{label}</title>{inside}'
    )


def _points(rows: Sequence[Table], key: str) -> list[tuple[float, float]]:
    """Return tokens and value of the rows that have both."""
    return [
        (float(row["tokens"]), float(row[key]))
        for row in rows
        if row.get("tokens") is not None and row.get(key) is not None
    ]


def _means(values: Sequence[float]) -> list[float]:
    """Average runs of neighbours down to about `_SMOOTH` points."""
    step = len(values) / _SMOOTH
    groups = [values[int(i * step) : int((i + 1) * step)] for i in range(_SMOOTH)]
    return [sum(group) / len(group) for group in groups]
