"""A program of its own: runs a command that ends, with all it started, when its parent ends.

`mcp_link` starts servers through it: `python -I -S -B tether.py PARENT COMMAND...`, as the leader
of a process group. A server that is asked nothing more may never notice that nobody is there; so
the kernel tells this program of its parent's death (Linux), and it kills the group. How the command
ended is the last line on stderr. It imports the standard library alone.
"""

import ctypes
import os
import signal
import sys
from types import FrameType

_PR_SET_PDEATHSIG = 1  # source: prctl(2)


def main() -> None:
    """Run the command of the arguments and end as it ends."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    signal.signal(signal.SIGUSR1, _end_group)
    signal.signal(signal.SIGTERM, _wait_for_the_command)
    _signal_at_parents_death(signal.SIGUSR1)
    if os.getppid() != parent:  # it died before the line above
        return
    child = os.fork()
    if child == 0:
        _become(command)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)  # the pipes are the command's alone, so that their ends are seen
    os.dup2(nowhere, 1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    ending = f"signal {-code}" if code < 0 else f"exit status {code}"
    os.write(2, f"\n[ended with {ending}]\n".encode())
    _end_group()


def _become(command: list[str]) -> None:
    _signal_at_parents_death(signal.SIGKILL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}".encode())
    os._exit(127)  # as a shell says that there is no such command


def _signal_at_parents_death(number: signal.Signals) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))


def _wait_for_the_command(number: int = 0, frame: FrameType | None = None) -> None:
    """Let the command answer a SIGTERM to the group first."""


def _end_group(number: int = 0, frame: FrameType | None = None) -> None:
    """Kill what is left of the group, this program included."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
