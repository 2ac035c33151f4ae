"""What a call uses while it runs: processor time, memory and disk of all its processes together.

The kernel's own limits count one process or one file; this counts the whole, some twenty times a
second, from the keeper, which the code cannot touch.
"""

import os
import stat
import time

from puna.tools.sandbox.folders import HiddenError, measure
from puna.tools.sandbox.plan import Plan

PAUSE_S = 0.05  # between two looks; longer where a look is dear
SHARE = 10  # of the time between looks, at most one in this many is spent looking
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
MIB = 2**20


class Watch:
    """The meter of one session."""

    def __init__(self, plan: Plan, folders: list[str], *, sees_processes: bool) -> None:
        """Begin with what the folders hold now.

        Args:
            plan: the limits.
            folders: those whose growth is counted.
            sees_processes: whether `/proc` shows the session's processes and no others.
        """
        self._plan = plan
        self._folders = folders
        self._sees_processes = sees_processes
        self.known: dict[str, int] = {}  # every path and its bytes after the last call
        self._at_start: tuple[int, int] = (0, 0)  # files and bytes when the session began
        self._at_call: tuple[int, int] = (0, 0)
        self._cpu_at_call = 0.0
        self._next = 0.0
        self.settle()
        self._at_start = self._at_call

    def settle(self) -> None:
        """Take what the folders hold as known, between two calls."""
        try:
            self.known = self._content()
        except HiddenError:
            self.known = {}
        self._at_call = (len(self.known), sum(self.known.values()))

    def begin(self, worker: int) -> None:
        """Start to count a call."""
        self._cpu_at_call = self._cpu(worker)
        self._next = 0.0

    def pause_s(self) -> float:
        """Return how long to wait for the next look."""
        return max(0.0, self._next - time.monotonic())

    def trouble(self, worker: int, *, last: bool = False) -> str | None:
        """Say which limit is passed, in a sentence's end, or None.

        Args:
            worker: the process that runs the code.
            last: the call has ended; look at the folder whatever the time.
        """
        began = time.monotonic()
        if began < self._next and not last:
            return None
        found = None if last else (self._cpu_trouble(worker) or self._memory_trouble(worker))
        found = found or self._disk_trouble(worker)
        spent = time.monotonic() - began
        self._next = time.monotonic() + max(PAUSE_S, SHARE * spent)
        return found

    def _cpu_trouble(self, worker: int) -> str | None:
        limit = self._plan.cpu_s
        used = self._cpu(worker) - self._cpu_at_call
        return f"used more than {limit:g} s of processor time" if used > limit else None

    def _cpu(self, worker: int) -> float:
        """Return the processor seconds of every process, also of those that have ended."""
        if not self._sees_processes:
            return time.clock_gettime((~worker << 3) | 2)  # CPUCLOCK_SCHED of clock_getcpuclockid
        ended = os.times()
        total = ended.children_user + ended.children_system
        for fields in map(_facts, self._processes()):
            total += sum(int(x) for x in fields[11:15]) / TICKS
        return total

    def _memory_trouble(self, worker: int) -> str | None:
        limit = self._plan.memory_bytes
        if not self._sees_processes:
            return None  # one process, bounded by its address space
        processes = self._processes()
        used = sum(int(fields[21]) * PAGE for fields in map(_facts, processes) if fields)
        if used > limit:  # pages that processes share were counted for each of them
            used = sum(map(_proportional, processes))
        return f"used more than {limit // MIB} MiB of memory" if used > limit else None

    def _disk_trouble(self, worker: int) -> str | None:
        plan = self._plan
        try:
            content = self._content()
            held = self._unlinked(worker)
        except HiddenError as hidden:
            return f"hid files: {hidden}"
        count, total = len(content), sum(content.values()) + held
        if total > max(self._at_start[1] + plan.disk_bytes, self._at_call[1]):
            return f"wrote more than {plan.disk_bytes // MIB} MiB to its folder"
        if count > max(self._at_start[0] + plan.files, self._at_call[0]):
            return f"made more than {plan.files} files"
        return None

    def _content(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for folder in self._folders:
            found |= measure(folder)
        return found

    def _unlinked(self, worker: int) -> int:
        """Return the bytes of open files that have no name any more."""
        devices = {os.stat(folder).st_dev for folder in self._folders}
        seen: dict[int, int] = {}
        for process in self._processes() if self._sees_processes else [worker]:
            for name in _entries(f"/proc/{process}/fd"):
                try:
                    facts = os.stat(f"/proc/{process}/fd/{name}")
                except OSError:
                    continue
                if facts.st_nlink == 0 and facts.st_dev in devices and stat.S_ISREG(facts.st_mode):
                    seen[facts.st_ino] = facts.st_blocks * 512
        return sum(seen.values())

    def _processes(self) -> list[int]:
        own = os.getpid()
        return [int(x) for x in _entries("/proc") if x.isdecimal() and int(x) != own]


def _facts(process: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name, from the third on; none if it is gone."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].decode().split()
    except OSError:
        return []


def _proportional(process: int) -> int:
    """Return the resident bytes of a process, with shared pages divided among those who share."""
    try:
        with open(f"/proc/{process}/smaps_rollup", "rb") as file:
            lines = file.read().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(b"Pss:"))
    except (OSError, StopIteration):
        fields = _facts(process)
        return int(fields[21]) * PAGE if fields else 0


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
