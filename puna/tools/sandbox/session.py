"""A session: code in, outcome out, with a namespace that lives from call to call.

It owns the launcher's process and speaks with the keeper in the sandbox; both are trusted, and
still every wait ends. A session that cannot be walled in does not start, unless its maker says
`unprotected=True`.
"""

import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from puna.errors import RequestError, StateError
from puna.log import logger
from puna.tools.sandbox import runtime, workspace
from puna.tools.sandbox.channel import MAX_FRAME, Frames, HungUpError, frame
from puna.tools.sandbox.limits import Limits
from puna.tools.sandbox.outcome import Outcome
from puna.tools.sandbox.plan import Plan

NAMESPACED = ("bubblewrap", "namespaces")
WAYS = (*NAMESPACED, "landlock")  # the strongest that the system allows comes first
START_S = 20.0  # for a sandbox to be made on a busy machine
GRACE_S = 10.0  # for the keeper to end a call that has reached a limit
LAUNCHER = Path(__file__).with_name("launch.py")


class Session:
    """A Python session in a sandbox; `run` may be called from any thread, one call at a time."""

    def __init__(
        self,
        folder: str | Path | None = None,
        limits: Limits | None = None,
        *,
        ways: Sequence[str] = WAYS,
        unprotected: bool = False,
    ) -> None:
        """Start a session.

        Args:
            folder: where the code reads and writes files; None makes a temporary folder, which
                goes with the session.
            limits: what the code may use.
            ways: the protections to try, in this order.
            unprotected: run without walls where none can be built.
        Raises:
            StateError: no protection works on this machine.
            RequestError: the folder is not one that foreign code should write to.
        """
        self.limits = limits or Limits()
        self._own = folder is None
        self.folder = (
            Path(tempfile.mkdtemp(prefix="puna-session-")).resolve()
            if folder is None
            else workspace.check_folder(Path(folder))
        )
        self._scratch = Path(tempfile.mkdtemp(prefix="puna-scratch-")).resolve()
        self._ways = (*ways, *(("none",) if unprotected else ()))
        self._lock = threading.Lock()
        self._is_closed = False
        self._is_interrupted = False
        self._frames = Frames()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self.way = ""
        try:
            self._user = self._identity()
            self._open()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def run(self, code: str) -> Outcome:
        """Run code in the session and wait for its outcome; no code makes this raise.

        Raises:
            StateError: the session is closed, or the sandbox cannot be made again.
        """
        text = code.encode(errors="surrogatepass")
        if len(text) >= MAX_FRAME:
            raise RequestError(
                f"sandbox: {len(text):,} bytes of code given; fewer than {MAX_FRAME:,} are "
                "expected. Put data into a file of the session's folder."
            )
        with self._lock:
            if self._is_closed:
                raise StateError(
                    "sandbox: the session is closed; an open one is expected. Start a new session."
                )
            if self._channel is None:
                self._open()
            before = workspace.stamps(self.folder)
            began = time.monotonic()
            self._is_interrupted = False
            try:
                outcome = self._exchange(text)
            except BaseException:  # Ctrl-C: what is still to come would be taken for the next call
                self._end()
                raise
            files = workspace.changed(before, workspace.stamps(self.folder))
            spent = time.monotonic() - began
            return dataclasses.replace(outcome, files=files, seconds=spent)

    def read(self, name: str) -> bytes:
        """Return a file of the folder by its name there; links are not followed."""
        return workspace.read_file(self.folder, name)

    def interrupt(self) -> None:
        """End the running call from another thread; its outcome says so."""
        process = self._process
        if process is not None and self._lock.locked():
            self._is_interrupted = True
            process.kill()

    def close(self) -> None:
        """End the session and everything that the code has left running."""
        self._is_closed = True
        self._end()
        workspace.remove(self._scratch)
        if self._own:
            workspace.remove(self.folder)

    def _identity(self) -> tuple[int, int]:
        """Return the user and the group that the code runs as: never root.

        For root it is the folder's owner, or a user who owns nothing else: a temporary folder is
        given to that one, any other folder of root is shown to it as its own.
        """
        if os.geteuid() != 0:
            return os.geteuid(), os.getegid()
        facts = self.folder.stat()
        user, group = facts.st_uid, facts.st_gid
        if user == 0:
            user = group = workspace.spare_user(self.folder)
            if not workspace.is_mapped(user) and Path("/").stat().st_uid != 0:
                return 0, 0  # root by name only, in a namespace that knows no other user
        for folder in (self._scratch, self.folder) if self._own else (self._scratch,):
            os.chown(folder, user, group)
        return user, group

    def _open(self) -> None:
        """Make the sandbox by the first way that works."""
        if sys.platform != "linux":
            raise StateError(
                f"sandbox: this system is {sys.platform}; Linux is expected. Use the tool on Linux."
            )
        reasons = []
        for way in self._ways:
            reason = self._try(way)
            if reason is None:
                self.way = way
                logger.debug("sandbox: a session runs behind %s", way)
                return
            reasons.append(f"{way}: {reason}")
        raise StateError(
            f"sandbox: no protection works on this machine ({'; '.join(reasons)}); namespaces, "
            "bubblewrap or Landlock is expected. Install bubblewrap, or allow the code to run "
            "unprotected."
        )

    def _try(self, way: str) -> str | None:
        """Start the launcher; return why it failed, None where the session is ready."""
        here, there = socket.socketpair()
        with tempfile.TemporaryFile() as complaints:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-X", "utf8", str(LAUNCHER), str(there.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                env={},
                cwd="/",
                close_fds=True,
                pass_fds=(there.fileno(),),
                start_new_session=True,
            )
            there.close()
            self._channel, self._frames = here, Frames()
            reason = self._greet(self._plan(way))
            if reason is not None:
                self._end()
                complaints.seek(0)
                said = complaints.read(4096).decode(errors="replace").strip().splitlines()
                return reason or (said[-1] if said else "it ended without a word")
        return None

    def _greet(self, plan: Plan) -> str | None:
        """Send the plan and wait for the keeper; return None where it is ready."""
        deadline = time.monotonic() + START_S
        try:
            self._send(frame(b"P", plan.packed()))
            while True:
                for kind, body in self._receive(deadline):
                    if kind == b"R":
                        return None
                    if kind == b"X":
                        return body.decode(errors="replace")
                    if kind == b"P":
                        self._send(frame(b"P", plan.packed()))
        except (HungUpError, OSError) as error:
            return "it did not answer in time" if isinstance(error, TimeoutError) else ""

    def _exchange(self, code: bytes) -> Outcome:
        """Send code, and collect frames until the call is done."""
        deadline = time.monotonic() + self.limits.wall_s + GRACE_S
        streams = {b"O": "", b"E": ""}
        try:
            self._send(frame(b"C", code))
            while True:
                for kind, body in self._receive(deadline):
                    if kind in streams:
                        streams[kind] = body.decode(errors="replace")
                    if kind == b"D":
                        return _outcome(body, streams)
        except (HungUpError, OSError):
            self._end()
            why = "was interrupted" if self._is_interrupted else "brought its sandbox down"
            return Outcome(completed=False, stderr=streams[b"E"], lost=why)

    def _send(self, text: bytes) -> None:
        assert self._channel is not None
        self._channel.settimeout(GRACE_S)
        self._channel.sendall(text)

    def _receive(self, deadline: float) -> list[tuple[bytes, bytes]]:
        assert self._channel is not None
        self._channel.settimeout(max(0.001, deadline - time.monotonic()))
        piece = self._channel.recv(2**18)
        if not piece:
            raise HungUpError
        return self._frames.feed(piece)

    def _end(self) -> None:
        """End the launcher; the kernel ends all that it has started."""
        if self._channel is not None:
            with contextlib.suppress(OSError):
                self._send(frame(b"Q"))
            self._channel.close()
            self._channel = None
        if self._process is not None:
            try:
                self._process.wait(timeout=1.0)  # the keeper sees the channel close
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _plan(self, way: str) -> Plan:
        home = "/tmp" if way in NAMESPACED else str(self._scratch)
        user, group = self._user
        facts = self.folder.stat()
        owned = (facts.st_uid, facts.st_gid) if os.geteuid() == 0 else (user, group)
        return Plan(
            dataclasses.asdict(self.limits)
            | {
                "way": way,
                "temporary": [str(self._scratch), *([str(self.folder)] if self._own else [])],
                "processes": self.limits.processes + self._others(way),
                "parent": os.getpid(),
                "folder": str(self.folder),
                "scratch": str(self._scratch),
                "shown": runtime.shown(),
                "python": sys.executable,
                "library": str(LAUNCHER.parent),
                "import_paths": runtime.import_paths(),
                "environment": runtime.environment(home=home, cores=self.limits.cores),
                "owner": owned[0],
                "owner_group": owned[1],
                "user": user,
                "group": group,
            }
        )

    def _others(self, way: str) -> int:
        """Return how many threads the kernel would count that are not the session's."""
        is_apart = way in NAMESPACED and runtime.counts_by_namespace(os.uname().release)
        return 0 if is_apart else runtime.crowd(self._user[0])


def _outcome(verdict: bytes, streams: dict[bytes, str]) -> Outcome:
    """Read how a call ended: completed, failed, or lost with its reason."""
    lost = None if verdict in (b"c", b"f") else verdict.decode(errors="replace")
    return Outcome(completed=verdict == b"c", stdout=streams[b"O"], stderr=streams[b"E"], lost=lost)
