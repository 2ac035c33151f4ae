"""The documents of a folder that search knows: which files there are, and what stands in one.

The readers of curation do the reading; here a title is added, which they do not need.
"""

import html
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from puna.data.extract import decode_html
from puna.data.readers import read_pages
from puna.data.streams import open_stream
from puna.errors import ExtraError, PunaError
from puna.log import logger

_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_TITLE_BYTES = 1 << 16  # a page's head is not longer
_TITLE_LETTERS = 120
_HTML = (".html", ".htm", ".xhtml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One document as search shows it. `url` is its address, or its place in the folder."""

    title: str
    url: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a file holds. Where it could not be read, `failure` says why."""

    pages: tuple[Page, ...]
    failure: str | None = None
    is_final: bool = True  # False: reading the same file later may succeed


def files_in(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield name and stamp of every file; a file with the same stamp has the same content.

    Hidden files and unprintable names are left out, and links that lead out of the folder, which
    would show a model what the person did not mean to show.
    """
    root = folder.resolve()
    for directory, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(directory, name)
            is_hidden = name.startswith(".") or not name.isprintable()
            if is_hidden or not path.resolve().is_relative_to(root):
                continue
            try:
                facts = path.stat()
            except OSError:
                continue  # it vanished, or its folder may not be read
            if path.is_file():
                stamp = f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}"
                yield path.relative_to(root).as_posix(), stamp


def read_file(folder: Path, name: str) -> Found:
    """Read one file of the folder; whatever is wrong with it stops nothing."""
    path, failures = folder / name, dict[str, str]()
    try:
        heading = _html_title(path) if path.suffix.lower() in _HTML else ""
        pages = tuple(
            Page(
                title=heading or _first_line(document.text) or name,
                url=document.metadata.get("url") or name + document.id.removeprefix(path.name),
                text=document.text,
            )
            for document in read_pages([path], failures)
        )
    except ExtraError as error:
        return Found(pages=(), failure=str(error), is_final=False)
    except PunaError as error:
        return Found(pages=(), failure="; ".join(failures.values()) or str(error))
    except Exception as error:  # a worker: parsers of foreign files fail in their own ways
        logger.warning("search: %s cannot be read", name, exc_info=True)
        return Found(pages=(), failure=f"{type(error).__name__}: {error}")
    return Found(pages=pages, failure="; ".join(failures.values()) or None)


def _html_title(path: Path) -> str:
    with open_stream(path) as stream:
        found = _TITLE.search(decode_html(stream.read(_TITLE_BYTES)))
    return " ".join(html.unescape(found[1]).split())[:_TITLE_LETTERS] if found else ""


def _first_line(text: str) -> str:
    line = next((line for line in text.splitlines() if line.strip()), "")
    return " ".join(line.split())[:_TITLE_LETTERS]
