"""The documents that any machine has: the four seed sources of the embedded default.

Pages and sources are found and must be judged; mathematics and languages are generated as many as
the mixture asks for, already clean.
"""

from collections.abc import Iterator

from puna.data.code import code_documents
from puna.data.document import Document
from puna.data.languages import language_document
from puna.data.maths import maths_document
from puna.data.pages import page_documents, standard_modules, topics
from puna.errors import RequestError


def found_documents(failures: dict[str, str], *, workers: int) -> Iterator[Document]:
    """Yield the pages of the standard library, then its sources."""
    yield from page_documents(standard_modules() + topics(), failures, workers=workers)
    yield from code_documents()


def generated_document(source: str, index: int, *, seed: int, held_out: bool = False) -> Document:
    """Generate one document of mathematics or of the eight languages."""
    match source:
        case "maths":
            return maths_document(index, seed=seed, held_out=held_out)
        case "multilingual":
            return language_document(index, seed=seed, held_out=held_out)
        case _:
            raise RequestError(
                f"generated_document: source {source!r}; 'maths' or 'multilingual' is expected."
            )
