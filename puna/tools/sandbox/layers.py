"""Which walls stand on this machine, found by building each and knocking at it from within."""

import os
import time
from dataclasses import dataclass

from puna.errors import StateError
from puna.tools.sandbox import bubblewrap, landlock
from puna.tools.sandbox.limits import Limits
from puna.tools.sandbox.session import WAYS, Session

ADVICE = {
    "bubblewrap": "install the system's package bubblewrap",
    "namespaces": "allow user namespaces (sysctl user.max_user_namespaces and, on Ubuntu, "
    "kernel.apparmor_restrict_unprivileged_userns=0)",
    "landlock": "use Linux 5.13 or newer with landlock among its security modules",
}
WALLS = ("files", "network", "processes", "system calls", "privileges")

# Runs inside. One line for each wall that holds.
KNOCK = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def closed(name, act):
    try:
        act()
    except OSError:
        print(name)
closed('files', lambda: open({file!r}).close())
def connect():
    import _socket
    _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM).close()
closed('network', connect)
closed('processes', lambda: os.kill({process}, 0))
if libc.prctl(21, 0, 0, 0, 0) == 2: print('system calls')
if libc.prctl(39, 0, 0, 0, 0) == 1 and 0 not in os.getresuid(): print('privileges')
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One wall, or one way to build several."""

    name: str
    is_active: bool
    detail: str
    advice: str = ""  # what would bring it, where it is missing and would help


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What came of one way to build a sandbox."""

    reason: str = ""  # why it failed
    seconds: float = 0.0  # until the first answer
    walls: tuple[str, ...] = ()  # those that held


def attempt(way: str) -> Attempt:
    """Build a sandbox one way and knock at its walls."""
    began = time.monotonic()
    try:
        with Session(limits=Limits(wall_s=5.0), ways=[way]) as session:
            session.run("1")
            seconds = time.monotonic() - began
            knock = KNOCK.format(file=__file__, process=os.getppid())
            held = session.run(knock).stdout.splitlines()
    except StateError as error:
        return Attempt(reason=str(error).partition(f"{way}: ")[2].partition(");")[0].strip())
    return Attempt(seconds=seconds, walls=tuple(wall for wall in WALLS if wall in held))


def look() -> list[Layer]:
    """Try every way; the first row says what a session on this machine would stand behind."""
    tried = {way: attempt(way) for way in WAYS}
    chosen = next((way for way in WAYS if not tried[way].reason), None)
    rows = [_protection(chosen, tried)]
    rows += [_way(way, tried[way], is_needed=chosen is None) for way in WAYS]
    if chosen:
        held = tried[chosen].walls
        rows += [
            Layer(name=wall, is_active=wall in held, detail="closed" if wall in held else "open")
            for wall in WALLS
        ]
    return rows


def _protection(chosen: str | None, tried: dict[str, Attempt]) -> Layer:
    if chosen is None:
        return Layer(
            name="protection",
            is_active=False,
            detail="none: the code of a model does not run",
            advice=ADVICE["bubblewrap"],
        )
    start = f"{tried[chosen].seconds * 1000:.0f} ms to the first answer"
    return Layer(name="protection", is_active=True, detail=f"{chosen}, {start}")


def _way(way: str, tried: Attempt, *, is_needed: bool) -> Layer:
    works = "works" if not tried.reason else tried.reason
    if way == "bubblewrap" and bubblewrap.program() is None:
        works = "not installed"
    if way == "landlock" and landlock.version():
        works += f", version {landlock.version()}"
    advice = ADVICE[way] if tried.reason and is_needed else ""
    return Layer(name=way, is_active=not tried.reason, detail=works, advice=advice)
