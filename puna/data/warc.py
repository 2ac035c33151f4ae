"""Web archives: the pages in a WARC file, as documents with address and date.

Of a damaged archive the whole records are used, and the first that is not whole is named. Records
that were cut off when they were captured are left out too: Llama 3's data holds whole documents
only (The Llama 3 Herd of Models, section 3.1.1).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from puna.data.document import Document
from puna.data.extract import decode_html
from puna.errors import ExtraError, FormatError

_HTML = ("text/html", "application/xhtml+xml")
_MAX_RECORD_BYTES = 64_000_000  # a record is held in memory; no page is as large


def read_warc(path: Path, name: str, failures: dict[str, str]) -> Iterator[Document]:
    """Yield the pages of an archive; what cannot be read is named in `failures`.

    Args:
        path: a `.warc` file, also compressed.
        name: the archive's part of the documents' ids.
    """
    for index, record in enumerate(_records(path, name, failures), start=1):
        try:
            document = _page(record, f"{name}#{index}")
        except FormatError as error:
            failures[f"{name}#{index}"] = str(error)
            continue
        if document is not None:
            yield document


def _records(path: Path, name: str, failures: dict[str, str]) -> Iterator[Any]:
    """Yield the whole records of an archive, with their bodies in memory."""
    try:
        from fastwarc.warc import ArchiveIterator
    except ImportError as error:
        raise ExtraError(
            "reading WARC files needs the extra `curate`: pip install 'puna[curate]'."
        ) from error
    count = 0
    try:
        # Bodies are read before HTTP is parsed, because a body that ends early is silently short.
        for record in ArchiveIterator(
            str(path),
            parse_http=False,
            fsspec_args=False,
            max_content_length=_MAX_RECORD_BYTES,
        ):
            record.freeze()
            promised = record.headers.get("Content-Length", "")
            if promised != str(record.content_length):
                failures[name] = (
                    f"cut off after {count} records: {record.content_length} bytes of the next, "
                    f"{promised or 'an unknown number'} promised"
                )
                return
            count += 1
            yield record
    except (OSError, ValueError) as error:
        failures[name] = f"damaged after {count} records: {error}"


def _page(record: Any, document_id: str) -> Document | None:
    """Turn a record into a document that still has its markup; None where it is no page.

    Raises:
        FormatError: the page is not whole.
    """
    if str(record.record_type).rpartition(".")[2] not in ("response", "resource"):
        return None
    url = record.headers.get("WARC-Target-URI", "").strip("<>")
    if not url.startswith(("http://", "https://")):
        return None
    kind = record.headers.get("Content-Type", "")
    if record.is_http:
        try:
            record.parse_http(auto_decode="all")
        except (OSError, ValueError) as error:
            raise FormatError(f"the HTTP response is damaged: {error}") from error
        if record.http_headers.status_code != 200:
            return None
        kind = record.http_content_type or ""
    kind = kind.partition(";")[0].strip().lower()
    if kind not in (*_HTML, "text/plain"):
        return None
    if record.headers.get("WARC-Truncated"):
        raise FormatError("the page was cut off when it was captured")
    text = decode_html(record.reader.read())
    return Document(
        text=text,
        id=document_id,
        source="general",
        metadata={
            "url": url,
            "date": record.headers.get("WARC-Date", ""),
            "markup": "html" if kind in _HTML else "none",
        },
    )
