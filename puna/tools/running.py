"""One call of a tool, run where it can be left behind: a tool that hangs does not hang the dialog.

The call runs in a thread of its own while the caller waits, so Ctrl-C and the limit of time are
noticed at once. Python cannot kill a thread: a stopped tool gets its own `cancel` where it has one,
and an exception at its next step of Python. What waits outside Python (a socket, a library) is left
behind and ends by itself, and can no longer say anything.
"""

import contextvars
import ctypes
import threading
from collections.abc import Callable
from typing import Any

from puna.errors import PunaError
from puna.tools.tool import Tool

GRACE_S = 0.5  # how long a stopped tool may take to end before it is left behind


class ToolTimeoutError(PunaError, TimeoutError):
    """A tool took longer than its limit."""


class ToolStopped(KeyboardInterrupt):
    """Ctrl-C ended a tool; `said` is what the tool still answered, or nothing."""

    def __init__(self, said: str) -> None:
        super().__init__()
        self.said = said


class _Stop(SystemExit):
    """Ends a tool from outside: no ordinary handler catches it, and its thread ends quietly."""


def run_within(tool: Tool, arguments: dict[str, Any], limit: float | None) -> str:
    """Call the tool and return its result.

    Args:
        limit: seconds; None runs it in the caller's own thread, for as long as it takes.
    Raises:
        ToolTimeoutError: the limit is over, and the tool was stopped.
        ToolStopped: Ctrl-C, and the tool was stopped.
        BaseException: whatever the tool raised.
    """
    call = tool.call
    assert call is not None, "a declaration is never run"
    if limit is None:
        return call(arguments)
    results: list[str] = []
    problems: list[BaseException] = []
    done = threading.Event()  # a join that Ctrl-C interrupts takes the thread for ended (3.11)

    def work() -> None:
        try:
            results.append(call(arguments))
        except _Stop:
            pass
        except BaseException as problem:  # it belongs to the caller, who waits for it
            problems.append(problem)
        finally:
            done.set()

    context = contextvars.copy_context()
    thread = threading.Thread(
        target=context.run, args=(work,), daemon=True, name=f"tool {tool.name}"
    )
    thread.start()
    try:
        done.wait(limit)
    except KeyboardInterrupt:
        _stop(thread, done, tool.cancel)
        raise ToolStopped("".join(results)) from None
    if problems:
        raise problems[0]
    if results:
        return results[0]
    _stop(thread, done, tool.cancel)
    said = "".join(f"\n{text}" for text in results)
    raise ToolTimeoutError(
        f"{tool.name} was stopped after {limit:g} seconds, which is all it has.{said}"
    )


def _stop(
    thread: threading.Thread, done: threading.Event, cancel: Callable[[], None] | None
) -> None:
    """End a tool that is still running: its own way first, then as far as Python can."""
    if cancel is not None:
        cancel()
        done.wait(GRACE_S)
    if not done.is_set():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Stop)
        )
        done.wait(GRACE_S)
