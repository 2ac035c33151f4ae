"""Places that forbid a part: a container's covered `/proc`, a root who is root by name only."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from puna.tools.sandbox import workspace

# Covering a part of /proc, as containers do, makes the kernel refuse a fresh one in a namespace.
COVERED = 'mount -t tmpfs none /proc/sys && exec unshare -Urm "$0" -c "$1"'
NAMED_ROOT = 'exec "$0" -c "$1"'
CODE = """
import sys
sys.path.insert(0, '')
from puna.tools.sandbox.limits import Limits
from puna.tools.sandbox.session import Session
with Session(limits=Limits(wall_s=2, memory_bytes=2**28), ways=['namespaces']) as session:
    for code in ("6 * 7", "import os; os.path.exists('/proc/self')", "os.fork() * 0",
                 "import threading; threading.Thread(target=print).start()",
                 "bytearray(2**30)", "while True: pass", "6 * 8", "open('/etc/shadow')"):
        outcome = session.run(code)
        print(outcome.completed, bool(outcome.lost), outcome.stdout.strip())
"""


def in_namespace(script: str) -> list[str]:
    if os.geteuid() == 0:
        pytest.skip("root is not an ordinary user's root")
    if shutil.which("unshare") is None:
        pytest.skip("the program unshare is not installed")
    command = ["unshare", "-Urm", "sh", "-c", script, sys.executable, CODE]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no namespace can be made: {done.stderr.strip()}")
    assert not done.stderr
    return done.stdout.splitlines()


def test_without_a_process_table_the_session_is_one_process() -> None:
    lines = in_namespace(COVERED)
    assert lines == [
        "True False 42",
        "True False False",  # no /proc
        "False False ",  # so no process that nobody counts
        "True False ",
        "False False ",
        "False True ",
        "True False 48",
        "False False ",
    ]


def test_a_root_by_name_is_an_ordinary_user() -> None:
    lines = in_namespace(NAMED_ROOT)
    assert lines[:3] == ["True False 42", "True False True", "True False 0"]
    assert lines[-2:] == ["True False 48", "False False "]


def test_users_are_found_in_the_map_of_a_namespace(tmp_path: Path) -> None:
    table = tmp_path / "uid_map"
    table.write_text("         0       1000          1\n         1     100000      65536\n")
    assert workspace.is_mapped(0, table)
    assert workspace.is_mapped(61_184, table)
    assert not workspace.is_mapped(70_000, table)
