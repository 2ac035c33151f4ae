"""A program of its own: renders the pydoc pages of modules, each in a forked child.

`pages` starts it with `python -P -s -S -B`, a bare environment and an empty working folder, and
writes one request per line. The answer to each is a line of JSON with the length of the HTML, then
the HTML. Every request runs in a fork of the same prepared process: what importing an odd module
does (threads, windows, output, an endless loop) ends with the fork, and a page does not depend on
the pages before it. It imports the standard library alone, because site-packages are off its path.
"""

import contextlib
import gc
import importlib
import json
import os
import pydoc
import re
import select
import signal
import sys
import time
import warnings
from pydoc_data.topics import topics

# Imported before forking, since many modules import them again and again. Fixed, because pages
# list what is already known about a class.
PRELOADED = (
    "asyncio",
    "concurrent.futures.process",
    "ctypes",
    "email.mime.text",
    "http.server",
    "logging.handlers",
    "multiprocessing.managers",
    "unittest.mock",
    "xml.sax.expatreader",
    "xmlrpc.client",
)

_EXTRA = re.compile(r'<td class="extra">.*?</td>', re.DOTALL)  # links to the file on this machine


def main() -> None:
    """Answer requests until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    warnings.simplefilter("ignore")
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.disable()  # a collection in a fork would copy every page of memory that it shares
    for line in requests:
        request = json.loads(line)
        payload, error = _in_a_fork(request["name"], request["timeout_s"])
        header = {"name": request["name"], "bytes": len(payload), "error": error}
        answers.write(json.dumps(header).encode() + b"\n" + payload)
        answers.flush()


def _in_a_fork(name: str, timeout_s: float) -> tuple[bytes, str]:
    """Render one page in a child; return the HTML, or the reason why there is none."""
    inlet, outlet = os.pipe()
    child = os.fork()
    if child == 0:
        _render_and_leave(name, outlet)
    os.close(outlet)
    chunks, deadline, late = [], time.monotonic() + timeout_s, False
    while True:
        ready, _, _ = select.select([inlet], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            late = True
            os.kill(child, signal.SIGKILL)
            break
        chunk = os.read(inlet, 1 << 20)
        if not chunk:
            break
        chunks.append(chunk)
    os.close(inlet)
    _, status = os.waitpid(child, 0)
    answer = b"".join(chunks)
    if late:
        return b"", f"no page within {timeout_s:g} s"
    if status != 0 or not answer:
        return b"", f"the process ended with status {status}"
    return (answer[1:], "") if answer[:1] == b"+" else (b"", answer[1:].decode())


def _render_and_leave(name: str, outlet: int) -> None:
    """Write `+` and the page, or `-` and the reason, to the pipe; never return."""
    try:
        answer = b"+" + _render(name).encode("utf-8", "replace")
    except BaseException as error:  # a module may raise anything, SystemExit included
        answer = b"-" + type(error).__name__.encode()
    with contextlib.suppress(OSError), os.fdopen(outlet, "wb") as pipe:
        pipe.write(answer)
    os._exit(0)


def _render(name: str) -> str:
    """Render `topic:NAME` (the language reference that pydoc carries) or a module."""
    if name.startswith("topic:"):
        topic = name.removeprefix("topic:")
        text = pydoc.html.escape(topics[topic])
        return pydoc.html.page(topic, pydoc.html.bigsection(topic, "index", f"<pre>{text}</pre>"))
    module = importlib.import_module(name)
    return _EXTRA.sub("", pydoc.html.page(name, pydoc.html.document(module, name)))


if __name__ == "__main__":
    sys.setrecursionlimit(2000)
    main()
