"""HTML becomes text: what a reader of the page would read, without the furniture round it.

Two libraries, by what the page needs. trafilatura finds the main text of a web page; its tree is
rendered here, because Llama 3's data holds no Markdown markers and keeps code as it was written
(The Llama 3 Herd of Models, section 3.1.1). resiliparse turns a whole page into text, a hundred
times faster: for pages that are all content, as pydoc's are, and where trafilatura finds nothing.
"""

import re
from collections.abc import Iterator
from typing import Any

from puna.errors import ExtraError

_CELLS = re.compile(r" *\t[ \t]*")
_BLANK = re.compile(r"\n(?:[ \t]*\n){2,}")
_SPACES = re.compile(r"[ \t\r\n\xa0]+")
_BREAK = "\u2028"  # a line break inside a block, while its spaces are tidied


def page_text(html: str) -> str:
    """Return all text of a page; code verbatim, the cells of a table row divided by tabs."""
    try:
        from resiliparse.extract.html2text import extract_plain_text
    except ImportError as error:
        raise _missing() from error
    text = extract_plain_text(html, list_bullets=False).replace("\xa0", " ")
    lines = (
        _CELLS.sub("\t", line).strip("\t ") if "\t" in line else line.rstrip()
        for line in text.splitlines()
    )
    return _finish("\n".join(lines))


def article_text(html: str) -> str:
    """Return the main text of a web page, or all of it where no main text is found."""
    try:
        import trafilatura
    except ImportError as error:
        raise _missing() from error
    found = trafilatura.bare_extraction(html, fast=True, include_comments=False)
    body = getattr(found, "body", None)
    text = "" if body is None else _finish("\n\n".join(_blocks(body)))
    return text or page_text(html)


def decode_html(data: bytes) -> str:
    """Decode a page by the encoding it declares or, failing that, the one its bytes suggest."""
    try:
        from resiliparse.parse.encoding import bytes_to_str, detect_encoding
    except ImportError as error:
        raise _missing() from error
    return str(bytes_to_str(data, detect_encoding(data) or "utf-8"))


def markdown_text(markdown: str) -> str:
    """Return the text of a Markdown file without its markers; code blocks stay verbatim."""
    from markdown_it import MarkdownIt

    if markdown.startswith("---\n") and "\n---\n" in markdown[4:]:
        markdown = markdown[4:].split("\n---\n", 1)[1]  # front matter
    return page_text(MarkdownIt("commonmark").enable("table").render(markdown))


def _blocks(parent: Any) -> Iterator[str]:
    """Yield the blocks of trafilatura's tree: paragraphs, code, list items, table rows."""
    for element in parent:
        match element.tag:
            case "code":
                yield "".join(element.itertext()).strip("\n")
            case "list" | "table":
                tag = "item" if element.tag == "list" else "row"
                rows = (_row(part) for part in element.iter(tag))
                if text := "\n".join(row for row in rows if row):
                    yield text
            case "quote" | "div" if len(element):
                if head := _inline_text(element.text):
                    yield head
                yield from _blocks(element)
            case _:
                if text := _inline(element):
                    yield text
        if tail := _inline_text(element.tail):
            yield tail


def _row(element: Any) -> str:
    cells = list(element) if element.tag == "row" else [element]
    return "\t".join(filter(None, map(_inline, cells)))


def _inline(element: Any) -> str:
    """Return the text of one block on one line, or on several where it has line breaks."""
    for breaker in element.iter("lb"):
        breaker.tail = _BREAK + (breaker.tail or "")
    text = _inline_text("".join(element.itertext()))
    return "\n".join(filter(None, (line.strip() for line in text.split(_BREAK))))


def _inline_text(text: str | None) -> str:
    return _SPACES.sub(" ", text or "").strip()


def _finish(text: str) -> str:
    """Trim a text and leave at most one blank line between its blocks."""
    text = _BLANK.sub("\n\n", text).strip("\n \t")
    return text + "\n" if text else ""


def _missing() -> ExtraError:
    return ExtraError("reading HTML needs the extra `curate`: pip install 'puna[curate]'.")
