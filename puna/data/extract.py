"""HTML becomes text: what a reader of the page would read, without the furniture round it."""

import re

_CELLS = re.compile(r"[ \xa0]*\t[ \t\xa0]*")
_BLANK = re.compile(r"\n[ \t]*\n(?:[ \t]*\n)+")


def html_to_text(html: str) -> str:
    """Return the text of a page, code blocks verbatim, cells of a table row divided by tabs."""
    from resiliparse.extract.html2text import extract_plain_text

    text = extract_plain_text(html)
    lines = (
        _CELLS.sub("\t", line).strip("\t ") if "\t" in line else line.rstrip()
        for line in text.splitlines()
    )
    return _BLANK.sub("\n\n", "\n".join(lines)).strip() + "\n"
