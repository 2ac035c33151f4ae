"""The process that runs the code: one namespace for all calls, like a notebook.

A call is a cell. The value of its last expression is printed, a failure leaves a short traceback,
and names live on. The process reports by a number that the keeper made for this call; all else
that it says is only text, because the code could say it as well.
"""

import builtins
import errno
import os
import sys
from types import CodeType, ModuleType, TracebackType

from puna.tools.sandbox import figures

RECORD = 17  # bytes of a report: the call's number, and one for how it ended
COMPLETED, FAILED = b"c", b"f"
READY = b"."  # the first thing that is reported: every limit holds
ONLY_TREE = 0x400  # PyCF_ONLY_AST of Include/cpython/compile.h
FRAMES = 8  # of a traceback


class Ports:
    """Where the worker reads requests, writes reports and finds its two streams again."""

    def __init__(self, requests: int, reports: int, out: int, err: int) -> None:
        self.requests = requests
        self.reports = reports
        self.out = out
        self.err = err


def work(ports: Ports, import_paths: list[str]) -> None:
    """Run cells until the keeper closes the requests; the process ends here."""
    own = os.getpid()
    cells = Cells(import_paths)
    os.write(ports.reports, READY)
    while True:
        head = _read(ports.requests, 20)
        code = _read(ports.requests, int.from_bytes(head[16:], "big"))
        os.dup2(ports.out, 1)  # whatever the last cell has done to them
        os.dup2(ports.err, 2)
        streams = sys.stdout, sys.stderr = _writer(1), _writer(2)
        is_well = cells.run(code.decode(errors="replace"))
        for stream in {id(s): s for s in (sys.stdout, sys.stderr, *streams)}.values():
            _flush(stream)
        if os.getpid() != own:
            os._exit(0)  # a copy that the cell has forked off
        os.write(ports.reports, head[:16] + (COMPLETED if is_well else FAILED))


class Cells:
    """The namespace of a session and the running of cells in it."""

    def __init__(self, import_paths: list[str]) -> None:
        for path in import_paths:
            if not os.access(path, os.R_OK | os.X_OK):
                raise OSError(errno.EACCES, f"user {os.getuid()} may not read Python in {path}")
        for name in [x for x in sys.modules if x.partition(".")[0] == "puna"]:
            del sys.modules[name]
        vars(builtins).update(exit=sys.exit, quit=sys.exit)  # as `site` does, which is left out
        sys.path[:] = ["", *import_paths]
        sys.argv = [""]
        self._main = ModuleType("__main__")
        self._main.__dict__["__builtins__"] = builtins
        sys.modules["__main__"] = self._main
        self._codes: dict[str, str] = {}

    def run(self, code: str) -> bool:
        """Run one cell; print its last value, or its traceback; return whether it completed."""
        name = f"<cell {len(self._codes) + 1}>"
        self._codes[name] = ""
        try:
            body, last = _compiled(code, name)
            self._codes[name] = code
            figures.expect(code)
            exec(body, self._main.__dict__)
            if last is not None:
                _show(eval(last, self._main.__dict__))
            figures.keep_shown(code)
        except SystemExit as end:
            if end.code in (None, 0):
                return True
            sys.stderr.write(f"SystemExit: {end.code}\n")
            return False
        except BaseException as error:
            self._report(error)
            return False
        return True

    def _report(self, error: BaseException) -> None:
        """Print a traceback that quotes the lines of cells."""
        try:
            import linecache

            for name, code in self._codes.items():
                lines = [line + "\n" for line in code.splitlines()]
                linecache.cache[name] = (len(code), None, lines, name)
            text = _traceback(error)
        except BaseException:  # the code's own exception class may do anything
            text = f"{type(error).__name__}\n"
        try:
            sys.stderr.write(text)
        except BaseException:
            os.write(2, text.encode(errors="backslashreplace"))


def _compiled(code: str, name: str) -> tuple[CodeType, CodeType | None]:
    """Compile a cell; a last line that is an expression comes apart, for its value."""
    import _ast

    tree = compile(code, name, "exec", ONLY_TREE, dont_inherit=True)
    last = None
    is_shown = not code.rstrip().endswith(";")  # the notebook's way to keep a value quiet
    if is_shown and tree.body and isinstance(tree.body[-1], _ast.Expr):
        last = _ast.Expression(tree.body.pop().value)
    body = compile(tree, name, "exec", dont_inherit=True)
    return body, compile(last, name, "eval", dont_inherit=True) if last else None


def _show(value: object) -> None:
    """Print what a notebook would."""
    if value is None:
        return
    vars(builtins)["_"] = value
    print(repr(value))


def _traceback(error: BaseException) -> str:
    """Return the traceback without the frames of this file and with few of libraries."""
    import traceback

    trace = _outside(error.__traceback__)
    shown = traceback.TracebackException(type(error), error, trace, compact=True)
    _shorten(shown)
    return "".join(shown.format())


def _outside(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace


def _shorten(shown) -> None:  # type: ignore[no-untyped-def]
    """Keep the cells' frames and the last one of a library, through the chain of causes."""
    while shown is not None:
        stack = shown.stack
        if len(stack) > 1:
            stack[:] = [x for x in stack if x.filename.startswith("<cell ")] + (
                [] if stack[-1].filename.startswith("<cell ") else [stack[-1]]
            )
        if len(stack) > FRAMES:
            stack[:] = [*stack[: FRAMES // 2], *stack[-FRAMES // 2 :]]
        shown = shown.__cause__ or shown.__context__


def _writer(descriptor: int):  # type: ignore[no-untyped-def]
    """Return a text stream that writes line by line and can write every string."""
    return open(
        descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )


def _flush(stream: object) -> None:
    try:
        stream.flush()  # type: ignore[attr-defined]
    except BaseException:  # the cell may have put anything in its place
        pass


def _read(descriptor: int, count: int) -> bytes:
    """Read exactly `count` bytes; the end of the requests is the end of the process."""
    parts = []
    while count:
        part = os.read(descriptor, count)
        if not part:
            os._exit(0)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
