"""The keeper: starts the worker, hands it code, holds its limits and ends it.

It is the first process of the sandbox's own process tree where there is one, so its end is the end
of everything in it. Between calls all others are stopped: what the code leaves running uses
nothing. The worker has no way to the keeper's memory or to its channel; whatever the worker does,
each call ends with one report. Only the keeper speaks to puna.
"""

import errno
import fcntl
import os
import select
import time

from puna.tools.sandbox import kernel
from puna.tools.sandbox.capture import Capture
from puna.tools.sandbox.channel import Frames, HungUpError, frame
from puna.tools.sandbox.confine import confine
from puna.tools.sandbox.folders import remove_new
from puna.tools.sandbox.plan import Plan
from puna.tools.sandbox.roots import WORK
from puna.tools.sandbox.watch import Watch
from puna.tools.sandbox.worker import COMPLETED, READY, RECORD, Ports, work

KILL, STOP, CONTINUE = 9, 19, 18  # signal(7), x86 and ARM
WIDTH = 1031  # F_SETPIPE_SZ, linux/fcntl.h
LEFT = 3  # how the keeper exits where nobody has said good-bye
HIGH = 1000  # the worker's own descriptors stand above every number that its limit lets it open


class Keeper:
    """One sandbox: a worker at a time, and the limits round it."""

    def __init__(self, plan: Plan, channel: int, alive: int, *, alone: bool) -> None:
        """Take over an empty sandbox.

        Args:
            plan: the limits.
            channel: leads to puna.
            alive: has an end when the launcher has ended.
            alone: there is no process tree that could be counted, so the worker is one process.
        """
        self._plan = plan
        self._channel = channel
        self._alive = alive
        self._alone = alone
        self._is_first = os.getpid() == 1
        grown = [WORK] if plan.is_namespaced else [plan.folder, plan.scratch]
        self._watch = Watch(plan, grown, sees_processes=self._is_first and not alone)
        self._scratch = ["/tmp", "/dev/shm"] if plan.is_namespaced else []
        self._worker = 0
        self._ended: int | None = None
        self._start()

    def serve(self) -> None:
        """Answer calls until puna closes the channel."""
        frames = Frames()
        self._send(b"R")
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._alive, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            piece = b"" if self._alive in ready else os.read(self._channel, 2**16)
            if not piece:
                return
            for kind, body in frames.feed(piece):
                if kind == b"Q":
                    os._exit(0)
                if kind == b"C":
                    self._call(body)

    def _start(self) -> None:
        """Fork a worker with fresh pipes, and stop it until the first call."""
        requests, hand = os.pipe()
        seen, reports = os.pipe()
        out, out_end = _wide_pipe()
        err, err_end = _wide_pipe()
        self._worker = os.fork()
        if self._worker == 0:
            self._become_worker(requests, reports, out_end, err_end)
        for descriptor in (requests, reports, out_end, err_end):
            os.close(descriptor)
        if os.read(seen, 1) != READY:
            raise OSError(errno.EPERM, os.read(err, 4096).decode(errors="replace"))
        for descriptor in (hand, seen, out, err):
            os.set_blocking(descriptor, False)
        self._hand, self._seen = hand, seen
        self._out = Capture(out, self._plan.output_bytes)
        self._err = Capture(err, self._plan.output_bytes)
        self._ended = None

    def _become_worker(self, requests: int, reports: int, out: int, err: int) -> None:
        """Turn into the worker; never returns."""
        try:
            if self._plan.way != "none" or hasattr(os, "pidfd_open"):
                kernel.control(kernel.SET_DEATH_SIGNAL, KILL)
            os.setsid()
            high = [
                os.dup2(x, HIGH + i, False) for i, x in enumerate((requests, reports, out, err))
            ]
            os.dup2(out, 1)
            os.dup2(err, 2)
            os.closerange(3, HIGH)
            os.closerange(HIGH + len(high), HIGH + 64)
            os.environ.clear()
            os.environ.update(self._plan.environment)
            confine(self._plan, alone=self._alone)
            work(Ports(*high), self._plan.import_paths)
        except OSError as error:  # nothing foreign has run yet
            os.write(2, str(error.strerror).encode())
        finally:
            os._exit(70)

    def _call(self, code: bytes) -> None:
        """Run one piece of code and report how it went."""
        number = os.urandom(RECORD - 1)
        waiting = memoryview(number + len(code).to_bytes(4, "big") + code)
        self._signal(CONTINUE)
        self._watch.begin(self._worker)
        deadline = time.monotonic() + self._plan.wall_s
        seen = b""
        verdict: str | None = None  # why the worker is ended, if it is
        while verdict is None:
            waiting = self._exchange(waiting, deadline)
            seen = self._reports(seen)
            at = seen.find(number)
            if at >= 0 and len(seen) >= at + RECORD:
                break
            if self._reaped() is not None:
                verdict = _death(self._ended or 0)
            elif time.monotonic() > deadline:
                verdict = f"ran longer than {self._plan.wall_s:g} s"
            else:
                verdict = self._watch.trouble(self._worker)
        self._signal(STOP)
        verdict = verdict or self._watch.trouble(self._worker, last=True)
        self._out.drain()
        self._err.drain()
        self._send(b"O", self._out.text())
        self._send(b"E", self._err.text())
        if verdict is None:
            self._watch.settle()
            self._send(b"D", COMPLETED if seen[at + RECORD - 1 :][:1] == COMPLETED else b"f")
        else:
            self._end_worker()
            self._clean(wrote_too_much="folder" in verdict or "files" in verdict)
            self._start()
            self._send(b"D", verdict.encode())

    def _exchange(self, waiting: memoryview, deadline: float) -> memoryview:
        """Pass code to the worker and take its output, for a moment; return what is left of it."""
        poll = select.poll()
        poll.register(self._seen, select.POLLIN)
        poll.register(self._alive, select.POLLIN)
        poll.register(self._out.descriptor, select.POLLIN)
        poll.register(self._err.descriptor, select.POLLIN)
        if waiting:
            poll.register(self._hand, select.POLLOUT)
        pause = min(self._watch.pause_s(), max(0.0, deadline - time.monotonic()))
        ready = dict(poll.poll(1 + int(pause * 1000)))
        if self._alive in ready:
            raise HungUpError
        if self._hand in ready:
            try:
                waiting = waiting[os.write(self._hand, waiting[: 2**16]) :]
            except OSError:
                waiting = waiting[:0]  # nobody reads; its end or the deadline will tell
        self._out.read()
        self._err.read()
        return waiting

    def _reports(self, seen: bytes) -> bytes:
        """Return the end of what was reported so far; more than a record means nonsense."""
        try:
            seen += os.read(self._seen, 2**16)
        except BlockingIOError:
            pass
        return seen[-4096:]

    def _reaped(self) -> int | None:
        """Collect ended processes; return how the worker ended, None while it runs."""
        while self._ended is None:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if process == 0:
                break
            if process == self._worker:
                self._ended = status
        return self._ended

    def _signal(self, number: int) -> None:
        """Send a signal to everything in the sandbox but the keeper."""
        try:
            os.kill(-1 if self._is_first else self._worker, number)
        except ProcessLookupError:
            pass

    def _end_worker(self) -> None:
        """End every process but the keeper, and wait until they are gone."""
        if self._ended is None or self._is_first:
            self._signal(KILL)
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                break
        for descriptor in (self._hand, self._seen, self._out.descriptor, self._err.descriptor):
            os.close(descriptor)

    def _clean(self, *, wrote_too_much: bool) -> None:
        """Empty the temporary folders, and take back what went beyond the limit."""
        for folder in self._scratch:
            remove_new(folder, {})
        if wrote_too_much:
            remove_new(WORK if self._plan.is_namespaced else self._plan.folder, self._watch.known)
        self._watch.settle()

    def _send(self, kind: bytes, body: bytes = b"") -> None:
        left = memoryview(frame(kind, body))
        while left:
            left = left[os.write(self._channel, left) :]


def _wide_pipe() -> tuple[int, int]:
    """Return a pipe that holds as much as any user's may, so that much output takes few looks."""
    reading, writing = os.pipe()
    try:
        fcntl.fcntl(writing, WIDTH, 2**20)
    except OSError:
        pass  # the user has many pipes; the usual width will do
    return reading, writing


def keep(plan: Plan, channel: int, alive: int, *, alone: bool) -> None:
    """Serve one session to its end; the process ends here.

    Raises:
        OSError: the first worker could not be confined.
    """
    keeper = Keeper(plan, channel, alive, alone=alone)
    try:
        keeper.serve()
    except (HungUpError, BrokenPipeError, ConnectionResetError):
        pass  # puna is gone, and the session goes with it
    finally:
        os._exit(LEFT)


def _death(status: int) -> str:
    """Say how a process ended."""
    if os.WIFSIGNALED(status):
        return f"was ended by signal {os.WTERMSIG(status)}"
    return f"ended its own process with code {os.WEXITSTATUS(status)}"
