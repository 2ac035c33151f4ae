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
from typing import Any, Protocol

logger = logging.getLogger("puna")
logger.addHandler(logging.NullHandler())

_visible: contextvars.ContextVar[bool] = contextvars.ContextVar("puna_progress", default=False)
_bars: contextvars.ContextVar[Any] = contextvars.ContextVar("puna_bars", default=None)

LINE_EVERY_S = 10.0  # where stderr is no terminal


class Progress(Protocol):
    """A bar that counts towards its total."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count `amount` more units as done and show `note` beside the bar."""


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
    logger.info("%s", text)
    if _visible.get():
        print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress(*, total: int | None, title: str) -> Iterator[Progress]:
    """Show a progress bar on stderr; where stderr is no terminal, a line every ten seconds.

    Bars may stand inside one another: they share the display.
    """
    if not _visible.get():
        yield _Silent()
    elif sys.stderr.isatty():
        with _bar(total, title) as bar:
            yield bar
    else:
        lines = _Lines(total, title)
        try:
            yield lines
        finally:
            lines.close()


class _Silent:
    def advance(self, amount: int = 1, note: str = "") -> None:
        return None


class _Lines:
    """Progress for logs: one line every ten seconds and one at the end."""

    def __init__(self, total: int | None, title: str) -> None:
        self._total, self._title, self._done, self._note = total, title, 0, ""
        self._began = self._said = time.monotonic()

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._done += amount
        self._note = note or self._note
        if time.monotonic() >= self._said + LINE_EVERY_S:
            self._say()

    def close(self) -> None:
        self._say()

    def _say(self) -> None:
        self._said = time.monotonic()
        total = "" if self._total is None else f"/{self._total:,}"
        words = f"{self._title}: {self._done:,}{total}  {self._note}".rstrip()
        print(f"{words}  ({self._said - self._began:.0f} s)", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _bar(total: int | None, title: str) -> Iterator[Progress]:
    """Add a bar to the display, and open the display where none is open."""
    with contextlib.ExitStack() as stack:
        display = _bars.get()
        if display is None:
            display = stack.enter_context(_display())
            stack.callback(_bars.reset, _bars.set(display))
        task = display.add_task(title, total=total, note="")

        class Bar:
            def advance(self, amount: int = 1, note: str = "") -> None:
                told = {"note": note} if note else {}
                display.update(task, advance=amount, **told)

        yield Bar()


def _display() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Rich

    return Rich(
        TextColumn("{task.description:<14}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
    )
