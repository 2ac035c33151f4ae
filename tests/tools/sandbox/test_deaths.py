"""Nothing outlives the session: not its end, not the sudden end of who holds it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from puna.tools.sandbox import workspace
from puna.tools.sandbox.session import Session
from tests.tools.sandbox.conftest import QUICK

PATIENCE_S = 5.0

DAEMON = """
import os, time
if {forks} and os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in range(3): os.close(fd)
        while True:
            with open('beat', 'w') as file: file.write(str(time.time()))
            time.sleep(0.01)
    os._exit(0)
"""

HOLDER = """
import sys, threading, time
from puna.tools.sandbox import workspace
from puna.tools.sandbox.session import Session
made = []
def start():  # the thread that starts the session ends long before it
    made.append(Session(sys.argv[1] or None, ways=[sys.argv[2]]))
thread = threading.Thread(target=start)
thread.start()
thread.join()
session = made[0]
print(session.run(sys.argv[3]).completed, session._process.pid, end=" ")
print(session._scratch, session.folder, flush=True)
session.run("import time; time.sleep(60)")
"""


def descendants(process: int) -> list[int]:
    waiting, found = [process], [process]
    while waiting:
        for children in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            more = [int(x) for x in children.read_text().split()]
            waiting += more
            found += more
    return found


def all_gone(processes: list[int]) -> bool:
    """Whether all end soon; a zombie that nobody has collected counts as gone."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if not any(is_alive(process) for process in processes):
            return True
        time.sleep(0.02)
    return False


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def test_a_daemon_ends_with_the_session(way: str) -> None:
    with Session(limits=QUICK, ways=[way]) as session:
        session.run(DAEMON.format(forks=way != "landlock"))
        session.run("import time; time.sleep(0.1)")
        assert session._process is not None
        running = descendants(session._process.pid)
        assert len(running) >= (3 if way == "landlock" else 4)
    assert all_gone(running)


def test_a_daemon_ends_with_the_call_that_is_ended(way: str) -> None:
    with Session(limits=QUICK, ways=[way]) as session:
        assert session._process is not None
        idle = len(descendants(session._process.pid))
        assert session.run(DAEMON.format(forks=way != "landlock") + "while True: pass").lost
        assert len(descendants(session._process.pid)) == idle
        if way != "landlock":
            beat = (session.folder / "beat").read_text()
            time.sleep(0.2)
            assert (session.folder / "beat").read_text() == beat


@pytest.mark.parametrize("victim", ["the holder", "the launcher", "the keeper"])
def test_nothing_outlives_a_sudden_death(way: str, victim: str) -> None:
    """Every link of the chain is cut once with the signal that nobody can catch."""
    code = DAEMON.format(forks=way != "landlock")
    command = [sys.executable, "-c", HOLDER, "", way, code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        completed, launcher, *folders = holder.stdout.readline().split()
        assert completed == "True"
        running = descendants(int(launcher))
        assert len(running) >= 3
        target = {"the holder": holder.pid, "the launcher": running[0], "the keeper": running[1]}
        os.kill(target[victim], signal.SIGKILL)
        is_well = all_gone(running)
        holder.kill()
    if victim == "the holder":
        assert not any(Path(folder).exists() for folder in folders)
    for folder in folders:
        workspace.remove(Path(folder))
    assert is_well


def test_a_session_outlives_the_thread_that_made_it(way: str) -> None:
    code = "import sys\nsys.path.insert(0, '')\n" + HOLDER.partition("print(")[0]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            code + "time.sleep(0.3)\nprint(session.run('6 * 7').stdout)",
            "",
            way,
        ],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "42", done.stderr
