"""Numbers as people read them: units, thousands, and a plain word where there is no number."""

from html import escape

MISSING = '<span class="missing">not measured</span>'


def count(value: float | None) -> str:
    """Write a count in thousands, millions or billions, three digits of it."""
    if value is None:
        return MISSING
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "K")):
        if abs(value) >= limit:
            divisor = 1e3 if unit == "K" else limit
            return f"{_three(value / divisor)}&nbsp;{unit}"
    return f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """Write a time span in the two largest units."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f}&nbsp;s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}&nbsp;min&nbsp;{rest}&nbsp;s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,}&nbsp;h&nbsp;{minutes}&nbsp;min"


def size(value: float | None) -> str:
    """Write bytes in binary units."""
    if value is None:
        return MISSING
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{_three(value)}&nbsp;{unit}"
        value /= 1024
    return f"{_three(value)}&nbsp;TiB"


def percent(value: float | None, digits: int = 0) -> str:
    """Write a share as a percentage."""
    return MISSING if value is None else f"{value:.{digits}%}".replace("%", "&nbsp;%")


def number(value: float | None, digits: int = 2, unit: str = "") -> str:
    """Write a number with fixed digits and its unit."""
    if value is None:
        return MISSING
    return f"{value:,.{digits}f}{'&nbsp;' + escape(unit) if unit else ''}"


def _three(value: float) -> str:
    """Write about three digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
