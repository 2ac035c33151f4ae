"""Heuristic filters: each names why a document should go, or answers None to keep it.

`curate` applies the set of a document's source and counts the names. General text has the rules of
Gopher, C4 and FineWeb as far as they fit documentation; code is judged by its lines; generated text
needs no judge.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from puna.data.document import Document

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_STOP_WORDS = frozenset(["the", "be", "to", "of", "and", "that", "have", "with"])
_ENDS = (".", "!", "?", '"', "'", ":", "…", "।", "。", "！", "？", "：", "؟", "۔")
_UNSPACED = frozenset({"ja", "lo", "my", "km", "th", "zh"})  # scripts without spaces: no words


@dataclass(frozen=True, slots=True, kw_only=True)
class RepetitionLimit:
    """Shares above which a text repeats itself. Source: Gopher, arXiv:2112.11446, table A1."""

    duplicate_line_share: float = 0.30
    duplicate_paragraph_share: float = 0.30
    duplicate_line_chars: float = 0.20
    duplicate_paragraph_chars: float = 0.20
    top_ngram_chars: tuple[float, ...] = (0.20, 0.18, 0.16)  # n = 2, 3, 4
    duplicate_ngram_chars: tuple[float, ...] = (0.15, 0.14, 0.13, 0.12, 0.11, 0.10)  # n = 5 to 10


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityLimit:
    """Bounds of a readable text. Source: Gopher, arXiv:2112.11446, section A.1.1, unless said."""

    words: tuple[int, int] = (50, 100_000)
    mean_word_length: tuple[float, float] = (3, 10)
    symbol_share: float = 0.1  # `#` and ellipses for each word
    bullet_lines: float = 0.9
    ellipsis_lines: float = 0.3
    words_with_a_letter: float = 0.8
    stop_words: int = 2  # distinct ones, in English text only
    line_end_share: float = 0.12  # lines that end in punctuation; FineWeb, arXiv:2406.17557
    short_line_share: float = 0.67  # lines of at most 30 characters; FineWeb
    line_breaks: float = 0.3  # for each word; FineWeb


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeLimit:
    """Bounds of code that a person wrote. Source: Codex, arXiv:2107.03374, section 3.1."""

    mean_line_chars: float = 100
    max_line_chars: int = 1000
    alphanumeric_share: float = 0.25
    number_line_share: float = 0.5  # lines that hold literals alone are a table; puna's own


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterLimits:
    """The limits of every filter, by what they judge."""

    min_chars: int = 200  # with min_lines puna's own, for what line deduplication leaves
    min_lines: int = 3
    languages: tuple[str, ...] = ()  # keep these alone; () keeps all
    language_score: float = 0.5  # a text below it is in no language, or in several
    repetition: RepetitionLimit = field(default_factory=RepetitionLimit)
    # Reference pages repeat phrases and are made of short lines by nature.
    reference: RepetitionLimit = field(
        default_factory=lambda: RepetitionLimit(top_ngram_chars=(), duplicate_ngram_chars=())
    )
    quality: QualityLimit = field(default_factory=QualityLimit)
    code: CodeLimit = field(default_factory=CodeLimit)


def why_not(document: Document, limits: FilterLimits) -> str | None:
    """Apply the filters of the document's source; return the first reason to drop it."""
    if reason := too_short(document, limits):
        return reason
    match document.source:
        case "code":
            return poor_code(document, limits.code)
        case "general" if document.metadata.get("kind") == "reference":
            return too_repetitive(document, limits.reference)
        case "general":
            return too_repetitive(document, limits.repetition) or poor_text(
                document, limits.quality
            )
        case _:
            return None


def wrong_language(document: Document, score: float, limits: FilterLimits) -> str | None:
    """Name a text whose language is unsure, or is not one of those wanted."""
    if score < limits.language_score:
        return "language_unsure"
    if limits.languages and document.language not in limits.languages:
        return "language_unwanted"
    return None


def too_short(document: Document, limits: FilterLimits) -> str | None:
    """Name a text with nothing, or too little, in it."""
    text = document.text.strip()
    if not text:
        return "empty"
    lines = sum(1 for line in text.splitlines() if line.strip())
    # A long paragraph on one line is a text; a short one is not.
    if len(text) < limits.min_chars or (
        lines < limits.min_lines and len(text) < 3 * limits.min_chars
    ):
        return "too_short"
    return None


def too_repetitive(document: Document, limit: RepetitionLimit) -> str | None:
    """Name the kind of repetition that fills too much of the text (Gopher)."""
    lines = [line.strip() for line in document.text.splitlines() if line.strip()]
    paragraphs = [p.strip() for p in re.split(r"\n\s*\n", document.text) if p.strip()]
    checks = (
        ("duplicate_lines", lines, limit.duplicate_line_share, limit.duplicate_line_chars),
        (
            "duplicate_paragraphs",
            paragraphs,
            limit.duplicate_paragraph_share,
            limit.duplicate_paragraph_chars,
        ),
    )
    for name, parts, share, chars in checks:
        extra, extra_chars = _repeats(parts)
        if extra > share * len(parts) or extra_chars > chars * sum(map(len, parts)):
            return name
    words = [word.lower() for word in _WORD.findall(document.text)]
    total = sum(map(len, words))
    for n, most in enumerate(limit.top_ngram_chars, start=2):
        if _top_ngram_chars(words, n) > most * total:
            return f"top_{n}_gram"
    for n, most in enumerate(limit.duplicate_ngram_chars, start=5):
        if _duplicate_ngram_chars(words, n) > most * total:
            return f"duplicate_{n}_grams"
    return None


def poor_text(document: Document, limit: QualityLimit) -> str | None:
    """Name why a text does not read as prose (Gopher, FineWeb)."""
    words = _WORD.findall(document.text)
    lines = [line.strip() for line in document.text.splitlines() if line.strip()]
    spaced = document.language not in _UNSPACED
    if spaced and not limit.words[0] <= len(words) <= limit.words[1]:
        return "word_count"
    if spaced and document.language not in {"hi", "ko"}:  # whose words are short
        mean = sum(map(len, words)) / len(words)
        if not limit.mean_word_length[0] <= mean <= limit.mean_word_length[1]:
            return "mean_word_length"
    ellipses = document.text.count("...") + document.text.count("…")
    if max(document.text.count("#"), ellipses) > limit.symbol_share * len(words):
        return "symbols"
    if _share(lines, lambda line: line[:1] in "-*•‣·") > limit.bullet_lines:
        return "bullet_lines"
    if _share(lines, lambda line: line.endswith(("...", "…"))) > limit.ellipsis_lines:
        return "ellipsis_lines"
    if _share(words, lambda word: any(map(str.isalpha, word))) < limit.words_with_a_letter:
        return "few_letters"
    if document.language in (None, "en"):
        present = _STOP_WORDS.intersection(word.lower() for word in words)
        if len(present) < limit.stop_words:
            return "stop_words"
    ended = _share(lines, lambda line: line.endswith(_ENDS))
    if ended < limit.line_end_share and document.language != "th":  # Thai has no full stop
        return "line_ends"
    if _share(lines, lambda line: len(line) <= 30) >= limit.short_line_share:
        return "short_lines"
    if spaced and len(lines) > limit.line_breaks * len(words):
        return "line_breaks"
    if "lorem ipsum" in document.text.lower():  # C4, arXiv:1910.10683, section 2.2
        return "lorem_ipsum"
    return None


def poor_code(document: Document, limit: CodeLimit) -> str | None:
    """Name why a source file is a table, minified, or generated (Codex)."""
    lines = [line for line in document.text.splitlines() if line.strip()]
    if max(map(len, lines)) > limit.max_line_chars:
        return "long_line"
    if sum(map(len, lines)) > limit.mean_line_chars * len(lines):
        return "long_lines"
    if _share(document.text, str.isalnum) < limit.alphanumeric_share:
        return "few_alphanumerics"
    if _share(lines, _is_literal) > limit.number_line_share:
        return "literals"
    return None


def _is_literal(line: str) -> bool:
    """Whether a line holds only numbers, strings and brackets, as the rows of a table do."""
    return not re.sub(r"'[^']*'|\"[^\"]*\"|0[xX][0-9a-fA-F]+|#.*|[\d\s,.:(){}\[\]'\"+-]", "", line)


def _share(parts: Sequence[str], test: Callable[[str], bool]) -> float:
    return sum(1 for part in parts if test(part)) / max(1, len(parts))


def _repeats(parts: Sequence[str]) -> tuple[int, int]:
    """Count the parts that came before, and their characters."""
    seen: set[str] = set()
    extra = chars = 0
    for part in parts:
        if part in seen:
            extra += 1
            chars += len(part)
        seen.add(part)
    return extra, chars


def _ngrams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[i:] for i in range(n)), strict=False)


def _top_ngram_chars(words: Sequence[str], n: int) -> int:
    """Characters that the most frequent n-gram covers; one that occurs once covers none."""
    counts = Counter(_ngrams(words, n))
    if not counts:
        return 0
    most = max(counts.values())
    if most < 2:
        return 0
    return max(sum(map(len, gram)) for gram, count in counts.items() if count == most) * most


def _duplicate_ngram_chars(words: Sequence[str], n: int) -> int:
    """Characters inside n-grams that occurred before, counting no word twice."""
    seen: set[tuple[str, ...]] = set()
    chars = place = 0
    while place <= len(words) - n:
        gram = tuple(words[place : place + n])
        if gram in seen:
            chars += sum(map(len, gram))
            place += n
        else:
            seen.add(gram)
            place += 1
    return chars
