"""Texts and queries as the full-text index reads them, in every script.

SQLite's tokenizer divides at spaces. Thai, Chinese or Japanese have none between words, so an
invisible space is put between their letters; a word there becomes a phrase of single letters, and
the invisible spaces are taken out of what is shown.
"""

import re
import unicodedata
from collections.abc import Iterator

MAX_WORDS = 32  # of a query
_MAX_LETTERS = 64  # of a word of a query
_INVISIBLE = "\u200b"  # zero width space: no letter to SQLite, nothing to a reader

# Letters of scripts that put no space between words: Thai and Lao, Myanmar, Khmer, kana, Han.
_UNSPACED = re.compile(
    r"(?<!^)(?=[\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46\u0e81-\u0ec6\u1000-\u102a\u1780-\u17b3"
    r"\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
    r"|(?<=[\u0e01-\u0e30\u3041-\u30ff\u3400-\u9fff\U00020000-\U0003ffff])(?=\w)"
)


def for_index(text: str) -> str:
    """Return a text as it is stored: valid Unicode, letters of unspaced scripts apart."""
    text = text.replace("\0", " ").replace(_INVISIBLE, "")
    text = text.encode("utf-8", errors="replace").decode()
    return _UNSPACED.sub(_INVISIBLE, text)


def for_reader(text: str) -> str:
    """Return a stored text as it was, on one line."""
    return " ".join(text.replace(_INVISIBLE, "").split())


def words_of(query: str) -> list[str]:
    """Return the different words of a query, at most `MAX_WORDS`, as they stand in the index."""
    found: dict[str, None] = {}
    for word in _words(query):
        found.setdefault(for_index(word[:_MAX_LETTERS].casefold()))
        if len(found) == MAX_WORDS:
            break
    return list(found)


def matches(words: list[str]) -> Iterator[str]:
    """Yield FTS5 queries for words, the strictest first: all of them, any, any that begins so.

    Every word is quoted, so nothing in it is an operator. Source: SQLite's documentation of FTS5,
    section 3, full-text query syntax.
    """
    quoted = [f'"{word}"' for word in words]
    if len(words) > 1:
        yield " AND ".join(quoted)
    yield " OR ".join(quoted)
    parts = [f'"{part}"' for word in words for part in _parts(word)]
    yield " OR ".join([f"{word} *" for word in quoted] + parts[: 4 * MAX_WORDS])


def _words(query: str) -> Iterator[str]:
    """Yield runs of letters, digits and their marks, without reading more than is needed."""
    word: list[str] = []
    for sign in query:
        if unicodedata.category(sign)[0] in "LNM":
            word.append(sign)
        elif word:
            yield "".join(word)
            word = []
    if word:
        yield "".join(word)


def _parts(word: str) -> Iterator[str]:
    """Yield every three letters in a row of a word of an unspaced script."""
    letters = word.split(_INVISIBLE)
    for start in range(len(letters) - 2):
        yield _INVISIBLE.join(letters[start : start + 3])
