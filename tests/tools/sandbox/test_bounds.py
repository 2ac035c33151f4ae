"""Hostile code wants everything: each limit ends it, and the session works after it."""

import time
from collections.abc import Iterator

import pytest

from puna.tools.sandbox.session import Session
from tests.tools.sandbox.attempts import refused, still_computes, tasks_of
from tests.tools.sandbox.conftest import MIB, QUICK


@pytest.fixture
def session(counted: str) -> Iterator[Session]:
    with Session(limits=QUICK, ways=[counted]) as made:
        yield made


@pytest.fixture(autouse=True)
def works_afterwards(session: Session) -> Iterator[None]:
    """After every attempt the session still computes."""
    yield
    assert still_computes(session)


def test_an_endless_loop_ends_and_the_model_is_told(session: Session) -> None:
    session.run("x = 1")
    outcome = session.run("print('going')\nwhile True: pass")
    assert outcome.seconds < 5
    assert outcome.stdout == "going\n"
    assert "every variable is gone" in outcome.text
    assert "NameError" in session.run("x").stderr


def test_sleeping_ends_too(session: Session) -> None:
    assert session.run("import time\ntime.sleep(1000)").lost == "ran longer than 1 s"


def test_many_busy_threads_have_one_budget(session: Session) -> None:
    code = """
import threading, hashlib
def burn():
    while True: hashlib.sha256(b'x' * 2**20)
for _ in range(8): threading.Thread(target=burn).start()
"""
    session.run(code)
    began = time.monotonic()
    outcome = session.run("import time\nwhile True: time.sleep(0.1)")
    assert outcome.lost
    assert time.monotonic() - began < 5


def test_a_fork_bomb_is_bounded(session: Session) -> None:
    outcome = session.run("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass")
    assert not outcome.completed
    assert tasks_of(session) <= 3
    outcome = session.run("import subprocess\nwhile True: subprocess.Popen(['sleep', '100'])")
    assert not outcome.completed


def test_threads_are_bounded(session: Session) -> None:
    code = "import threading, time\nfor _ in range(1000):\n    "
    outcome = session.run(code + "threading.Thread(target=time.sleep, args=(9,)).start()")
    assert not outcome.completed
    session.run("import os; os._exit(0)")


def test_ten_gigabytes_are_not_given(session: Session) -> None:
    session.run("kept = 'here'")
    assert "MemoryError" in session.run("x = bytearray(10**10)").stderr
    assert session.run("kept").stdout == "'here'\n"
    assert not session.run("x = []\nwhile True: x.append(' ' * 10**6 + str(len(x)))").completed


def test_the_memory_of_all_processes_counts_together(session: Session) -> None:
    code = """
import os, time
for _ in range(4):
    if os.fork() == 0:
        hog = os.urandom(2**20) * 100
        time.sleep(60)
time.sleep(60)
"""
    outcome = session.run(code)
    assert outcome.lost == "used more than 160 MiB of memory" or refused(outcome)


def test_a_gigabyte_of_output_is_cut(session: Session) -> None:
    outcome = session.run("s = 'x' * 2**20\nfor _ in range(1024): print(s, end='')")
    assert len(outcome.stdout) < 2200
    assert "bytes left out" in outcome.stdout
    outcome = session.run("import os\nb = bytes(2**16)\nwhile True: os.write(2, b)")
    assert len(outcome.stderr) < 2200


def test_the_disk_does_not_fill(session: Session) -> None:
    before = session.run("open('mine', 'w').write('keep')").files
    assert [file.name for file in before] == ["mine"]
    outcome = session.run("f = open('big', 'wb')\nfor _ in range(64): f.write(bytes(2**20))")
    assert "File too large" in outcome.stderr
    session.run("f.close()\nimport os\nos.unlink('big')")
    many = "for i in range(99):\n    open(f'f{i}', 'wb').write(bytes(2**20))"
    outcome = session.run(many)
    assert outcome.lost == "wrote more than 24 MiB to its folder"
    assert [path.name for path in session.folder.iterdir()] == ["mine"]
    nameless = "import os\nkept = []\nfor i in range(50):\n"
    nameless += "    kept.append(open('f', 'wb'))\n    kept[-1].write(bytes(2**20))\n"
    outcome = session.run(nameless + "    kept[-1].flush()\n    os.unlink('f')")
    assert outcome.lost == "wrote more than 24 MiB to its folder"
    outcome = session.run("for i in range(9999): open(f'g{i}', 'w').close()")
    assert outcome.lost == "made more than 200 files"
    assert [path.name for path in session.folder.iterdir()] == ["mine"]


def test_the_temporary_folder_is_bounded(session: Session) -> None:
    code = "import tempfile\nd = tempfile.gettempdir()\nfor i in range(99):\n"
    assert not session.run(code + "    open(f'{d}/{i}', 'wb').write(bytes(2**20))").completed


def test_files_cannot_be_hidden_from_the_count(session: Session) -> None:
    if session.way == "landlock":
        pytest.skip("behind Landlock alone no folder can be closed")
    code = "import os\nos.mkdir('h')\nopen('h/x', 'wb').write(bytes(2**20))\nos.chmod('h', 0)"
    assert str(session.run(code).lost).startswith("hid files")
    code = "for _ in range(99):\n    os.mkdir('d')\n    os.chdir('d')"
    assert str(session.run("import os\n" + code).lost).startswith("hid files")


def test_what_is_left_running_stands_still_between_calls(session: Session) -> None:
    code = """
import threading, time
n = 0
def count():
    global n
    while True:
        n += 1
        time.sleep(0.001)
threading.Thread(target=count, daemon=True).start()
"""
    session.run(code)
    first = int(session.run("n").stdout)
    time.sleep(0.5)
    assert int(session.run("n").stdout) - first < 200


def test_memory_of_the_sandbox_is_far_from_the_parents(session: Session) -> None:
    code = "import resource\nresource.getrlimit(resource.RLIMIT_AS)[1]"
    assert int(session.run(code).stdout) <= 512 * MIB
    assert refused(session.run("resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))"))
