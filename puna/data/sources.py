"""The documents that any machine has: the four seed sources of the embedded default.

Pages and sources are found and must be judged; mathematics and languages are generated as many as
the mixture asks for, already clean.
"""

from collections.abc import Collection, Iterator

from puna.data.code import code_documents
from puna.data.document import Document
from puna.data.languages import language_document
from puna.data.maths import maths_document
from puna.data.pages import module_group, page_documents, standard_modules, topics
from puna.errors import RequestError


def found_documents(
    failures: dict[str, str], *, workers: int, packages: Collection[str] = ()
) -> Iterator[Document]:
    """Yield the pages of the standard library, then its sources.

    Args:
        failures: filled with the modules that gave no page, and why.
        packages: the top-level packages to take; empty means all, and the language reference.
    """
    names = standard_modules() + topics()
    if packages:
        names = [name for name in names if name.split(".")[0] in packages]
    yield from page_documents(names, failures, workers=workers)
    groups = {module_group(name) for name in packages}
    for document in code_documents():
        if not groups or document.group in groups:
            yield document


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
