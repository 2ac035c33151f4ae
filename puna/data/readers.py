"""The user's own documents: files and folders of HTML, text, Markdown, JSON lines, WARC and code.

Each format may also be compressed (`.gz`, `.zst`). Files come in sorted order. A file of an unknown
kind, a binary one or a damaged one stops nothing: it is named with the reason in `failures`, and
what is whole in it is used. Finding the text in markup is the slow part, so processes share it.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from puna.data.document import Document
from puna.data.extract import article_text, decode_html, markdown_text
from puna.data.streams import open_stream
from puna.data.warc import read_warc
from puna.data.workers import ordered_map
from puna.errors import FormatError, NotFoundError, RequestError

Reader = Callable[[Path, str, dict[str, str]], Iterator[Document]]

_CODE = frozenset(
    {".c", ".cc", ".cpp", ".go", ".h", ".hpp", ".java", ".js", ".py", ".rs", ".sh", ".sql", ".ts"}
)


_BATCH = 8  # pages of one task


def read_pages(
    paths: Sequence[Path], failures: dict[str, str], *, workers: int = 1
) -> Iterator[Document]:
    """Yield every document under the given files and folders, as text.

    Args:
        workers: processes that turn markup into text; the documents are the same for any number.
        failures: filled with the files, lines and records that could not be read, and why.
    Raises:
        NotFoundError: a path does not exist.
        RequestError: no path is given, or nothing under them can be read.
    """
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise NotFoundError(
            f"{missing[0]}: no such file or folder; give the path of your documents."
        )
    found = 0
    batches = _batches(_raw_documents(paths, failures))
    for texts in ordered_map(_without_markup, batches, workers=workers):
        found += len(texts)
        yield from texts
    if not found:
        named = "; ".join(f"{name} ({why})" for name, why in list(failures.items())[:3])
        raise RequestError(
            f"pages {', '.join(map(str, paths)) or '(none)'}: no readable document; files named "
            f"{', '.join(_READERS)} are expected, also with .gz or .zst. Not read: {named or '-'}."
        )


def _raw_documents(paths: Sequence[Path], failures: dict[str, str]) -> Iterator[Document]:
    """Yield documents that still have their markup, named in the metadata."""
    for path, name in _files(paths):
        reader = _reader(path)
        if reader is None:
            failures[name] = f"unknown kind of file '{path.suffix or path.name}'"
            continue
        try:
            yield from reader(path, name, failures)
        except (FormatError, OSError) as error:
            failures[name] = str(error)


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    for document in documents:
        batch.append(document)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _without_markup(documents: Sequence[Document]) -> list[Document]:
    return [_as_text(document) for document in documents]


def _as_text(document: Document) -> Document:
    """Turn the markup that the metadata names into text."""
    metadata = dict(document.metadata)
    match metadata.pop("markup", "none"):
        case "html":
            text = article_text(document.text)
        case "markdown":
            text = markdown_text(document.text)
        case _:
            text = document.text
    return replace(document, text=text, metadata=metadata)


def _files(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Yield (file, name) in sorted order; names are unique and say nothing of the machine."""
    used: dict[str, int] = {}
    for path in paths:
        used[path.name] = used.get(path.name, 0) + 1
        root = path.name if used[path.name] == 1 else f"{path.name}~{used[path.name]}"
        if path.is_file():
            yield path, root
            continue
        for file in sorted(path.rglob("*")):
            relative = file.relative_to(path)
            if file.is_file() and not any(part.startswith(".") for part in relative.parts):
                yield file, f"{root}/{relative.as_posix()}"


def _reader(path: Path) -> Reader | None:
    plain = Path(path.stem) if path.suffix.lower() in (".gz", ".zst") else path
    suffix = plain.suffix.lower()
    return _code if suffix in _CODE else _READERS.get(suffix)


def _html(path: Path, name: str, failures: dict[str, str]) -> Iterator[Document]:
    yield _general(decode_html(_bytes(path)), name, markup="html")


def _text(path: Path, name: str, failures: dict[str, str]) -> Iterator[Document]:
    yield _general(_decode(path), name)


def _markdown(path: Path, name: str, failures: dict[str, str]) -> Iterator[Document]:
    yield _general(_decode(path), name, markup="markdown")


def _code(path: Path, name: str, failures: dict[str, str]) -> Iterator[Document]:
    yield Document(text=_decode(path), id=name, source="code")


def _jsonl(path: Path, name: str, failures: dict[str, str]) -> Iterator[Document]:
    """Yield one document a line; the text stands under the key `text`."""
    number = 0
    with open_stream(path) as stream:
        try:
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                try:
                    yield _json_document(line, f"{name}#{number}")
                except FormatError as error:
                    failures[f"{name}#{number}"] = str(error)
        except FormatError as error:
            failures[name] = f"damaged after line {number}: {error}"


def _json_document(line: bytes, document_id: str) -> Document:
    try:
        table = json.loads(line)
    except ValueError as error:
        raise FormatError(f"not a line of JSON ({error})") from error
    if not isinstance(table, dict) or not isinstance(table.get("text"), str):
        raise FormatError("no text under the key 'text'")
    language = table.get("language")
    return Document(
        text=table["text"],
        id=document_id,
        source="general",
        language=language if isinstance(language, str) else None,
        metadata={key: str(table[key]) for key in ("url", "date") if table.get(key)},
    )


def _general(text: str, name: str, markup: str = "none") -> Document:
    return Document(text=text, id=name, source="general", metadata={"markup": markup})


def _bytes(path: Path) -> bytes:
    with open_stream(path) as stream:
        return stream.read()


def _decode(path: Path) -> str:
    """Read a text file as UTF-8.

    Raises:
        FormatError: it is binary, or in another encoding.
    """
    data = _bytes(path)
    if b"\0" in data:
        raise FormatError("binary, not text")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise FormatError(f"not UTF-8 text ({error.reason} at byte {error.start})") from error


_READERS: Mapping[str, Reader] = {
    ".html": _html,
    ".htm": _html,
    ".xhtml": _html,
    ".txt": _text,
    ".text": _text,
    ".rst": _text,
    ".md": _markdown,
    ".markdown": _markdown,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".warc": read_warc,
}
