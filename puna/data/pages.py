"""General knowledge found on any machine: the pages that pydoc renders for the standard library.

The first of the four seed sources. `pydoc_child` renders in processes of its own; here the pages
are asked for, turned into text, and freed from what belongs to this machine (paths, addresses,
dates of the build), so that the same Python gives the same documents.
"""

import json
import os
import queue
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from puna.data.document import Document
from puna.data.extract import page_text
from puna.errors import StateError

_CHILD = Path(__file__).with_name("pydoc_child.py")
# Tests, programs, and modules whose import acts; tkinter.tix repeats all of tkinter.
_SKIPPED = frozenset(
    {"antigravity", "ensurepip", "idlelib", "site", "test", "this", "tkinter.tix", "turtledemo"}
)
_SKIPPED_PARTS = frozenset({"test", "tests", "idle_test", "__main__", "__pycache__"})
_PAGE_TIMEOUT_S = 20.0

# pydoc escapes the defaults of a signature twice.
_ESCAPED = re.compile(r"=&lt;([^&\n]*)&gt;")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+|,? handle [0-9a-f]{6,}")
_BUILD = re.compile(r"\[(GCC|Clang|MSC)|\bx86_64\b|\baarch64\b|\(main, |cpython-3\d+-")


def standard_modules() -> list[str]:
    """List the public importable modules of the standard library, sorted, without importing any."""
    names = {
        name for name in sys.stdlib_module_names if not name.startswith("_") or name == "__future__"
    }
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in [path for name in names for path in (root / name).rglob("*.py")]:
        parts = path.relative_to(root).with_suffix("").parts
        if not any(part.startswith("_") for part in parts[1:-1]):
            names.add(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return sorted(
        name
        for name in names
        if name.split(".")[0] not in _SKIPPED
        and name not in _SKIPPED
        and not name.startswith("encodings.")
        and not any(
            part in _SKIPPED_PARTS or (part.startswith("_") and part != "__future__")
            for part in name.split(".")
        )
    )


def topics() -> list[str]:
    """List the chapters of the language reference that pydoc carries."""
    from pydoc_data.topics import topics as table

    return sorted(f"topic:{name}" for name in table)


def module_group(name: str) -> str:
    """Name what shares text with a module: its top-level package, `_pydecimal` with `decimal`."""
    top = name.split(".")[0]
    return top if top.startswith("__") else top.removeprefix("_py").removeprefix("_")


def page_documents(
    names: Sequence[str], failures: dict[str, str], *, workers: int
) -> Iterator[Document]:
    """Render each module's page and yield it as text, in the order of `names`.

    Args:
        names: modules, or `topic:NAME` for a chapter of the language reference.
        workers: rendering processes; the documents are the same for any number.
        failures: filled with the modules that gave no page, and why.
    """
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for name in names:
        waiting.put(name)
    pages: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(max(1, workers)) as pool:
        lanes = [pool.submit(_render, waiting, folder) for _ in range(max(1, workers))]
        for lane in lanes:
            rendered, failed = lane.result()
            pages |= rendered
            failures |= failed
    for name in names:
        if text := pages.pop(name, ""):
            yield _document(name, text)


def clean_page(text: str) -> str:
    """Remove what depends on this machine or this process."""
    machine = _machine_paths()
    text = _ESCAPED.sub(r"=<\1>", text)
    lines = [
        line
        for line in _ADDRESS.sub("", text).splitlines()
        if not _BUILD.search(line)
        and not line.startswith(("environ = ", "environb = "))
        and not any(path in line for path in machine)
    ]
    return "\n".join(lines).strip() + "\n" if lines else ""


def _machine_paths() -> tuple[str, ...]:
    paths = {sys.prefix, sys.base_prefix, sys.exec_prefix, str(Path.home()), tempfile.gettempdir()}
    return tuple(sorted(path for path in paths if len(path) > 4))


def _document(name: str, text: str) -> Document:
    group = name if name.startswith("topic:") else module_group(name)
    return Document(
        text=text,
        id=f"pydoc/{name}",
        source="general",
        language="en",
        metadata={"group": group, "kind": "reference"},
    )


def _render(
    waiting: "queue.SimpleQueue[str]", folder: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Take names until none wait; return their texts, and the reasons of those that failed."""
    command = [sys.executable, "-P", "-s", "-S", "-B", "-W", "ignore", str(_CHILD)]
    texts, failed = {}, {}
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_bare_environment(),
        cwd=folder,
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        while True:
            try:
                name = waiting.get_nowait()
            except queue.Empty:
                break
            request = json.dumps({"name": name, "timeout_s": _PAGE_TIMEOUT_S})
            child.stdin.write(request.encode() + b"\n")
            child.stdin.flush()
            answer = child.stdout.readline()
            if not answer:
                raise StateError(
                    f"pydoc pages: the rendering process ended at '{name}'; it should answer "
                    "every request. Check that `python -m pydoc json` works on this machine."
                )
            header = json.loads(answer)
            html = child.stdout.read(header["bytes"]).decode()
            if header["error"]:
                failed[name] = header["error"]
            else:
                texts[name] = clean_page(page_text(html))
        child.stdin.close()
    return texts, failed


def _bare_environment() -> Mapping[str, str]:
    """What the child may know: nothing of the person's environment, and a fixed hash seed."""
    return {
        "PATH": os.defpath,
        "HOME": "/nonexistent",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
    }
