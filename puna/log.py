"""What a person sees while puna works: notes and progress on stderr, nothing on stdout.

Long-running rooms take `progress`; the library itself is silent unless the command line (or a
program) turns the display on with `show`.
"""

import contextlib
import contextvars
import logging
import sys
import time
from collections.abc import Iterator
from typing import Protocol

logger = logging.getLogger("puna")
logger.addHandler(logging.NullHandler())

_visible: contextvars.ContextVar[bool] = contextvars.ContextVar("puna_progress", default=False)


class Progress(Protocol):
    """A bar that counts towards its total."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count `amount` more units as done and show `note` beside the bar."""


class _Silent:
    def advance(self, amount: int = 1, note: str = "") -> None:
        return None


@contextlib.contextmanager
def show(visible: bool = True) -> Iterator[None]:
    """Show notes and progress bars inside this block."""
    token = _visible.set(visible)
    try:
        yield
    finally:
        _visible.reset(token)


def note(text: str) -> None:
    """Tell the person at the terminal one line, on stderr, where the display is on."""
    logger.info(text)
    if _visible.get():
        print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress(*, total: int | None, title: str) -> Iterator[Progress]:
    """Show a progress bar on stderr; where stderr is no terminal, a line every ten seconds."""
    if not _visible.get():
        yield _Silent()
    elif sys.stderr.isatty():
        with _bar(total, title) as bar:
            yield bar
    else:
        yield _Lines(total, title)


class _Lines:
    """Progress for logs: one line every ten seconds and one at the end."""

    def __init__(self, total: int | None, title: str) -> None:
        self._total, self._title, self._done = total, title, 0
        self._next = time.monotonic() + 10

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._done += amount
        finished = self._total is not None and self._done >= self._total
        if finished or time.monotonic() >= self._next:
            self._next = time.monotonic() + 10
            total = "" if self._total is None else f"/{self._total:,}"
            print(f"{self._title}: {self._done:,}{total} {note}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _bar(total: int | None, title: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Rich

    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Rich(*columns, console=Console(stderr=True)) as rich:
        task = rich.add_task(title, total=total, note="")

        class Bar:
            def advance(self, amount: int = 1, note: str = "") -> None:
                rich.update(task, advance=amount, note=note)

        yield Bar()
