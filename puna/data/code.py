"""Code found on any machine: the sources of the standard library, without its tests.

The second of the four seed sources. A source shares its group with the pydoc page of the same
package, so the held-out split never puts a page on one side and its source on the other.
"""

import sysconfig
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

from puna.data.document import Document
from puna.data.pages import module_group

# Tests and test data; the editor; chapters of the reference that `pages` already renders;
# generated tables of character sets.
_SKIPPED_PARTS = frozenset(
    ["test", "tests", "idle_test", "testcases", "idlelib", "pydoc_data", "__pycache__"]
)
_SKIPPED_PACKAGES = frozenset({"encodings"})


def code_documents(root: Path | None = None) -> Iterator[Document]:
    """Yield every source file of the standard library, in the order of module names."""
    root = root or Path(sysconfig.get_paths()["stdlib"])
    paths = [path for entry in root.iterdir() for path in _sources(entry)]
    for path in sorted(paths):
        parts = path.relative_to(root).with_suffix("").parts
        if not _SKIPPED_PARTS.isdisjoint(parts):
            continue
        if parts[0].startswith("_sysconfigdata"):  # how this interpreter was built
            continue
        text = read_source(path)
        if text is not None:
            name = ".".join(parts)
            yield Document(
                text=text,
                id=f"source/{name}",
                source="code",
                metadata={"group": module_group(name)},
            )


def _sources(entry: Path) -> Iterable[Path]:
    """The source files of a module or package that lies in the library's folder."""
    if entry.suffix == ".py":
        return [entry]
    if entry.is_dir() and entry.name.isidentifier() and entry.name not in _SKIPPED_PACKAGES:
        return entry.rglob("*.py")
    return []


def read_source(path: Path) -> str | None:
    """Read a Python file in the encoding it declares; None where it is not readable as one."""
    try:
        with tokenize.open(path) as file:
            text = file.read()
    except (SyntaxError, UnicodeDecodeError, OSError):
        return None
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n") + "\n"
