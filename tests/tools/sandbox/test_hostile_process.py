"""Hostile code turns on its own process, streams and reports: every call still ends well."""

from collections.abc import Iterator

import pytest

from puna.tools.sandbox.session import Session
from tests.tools.sandbox.attempts import refused, still_computes
from tests.tools.sandbox.conftest import QUICK


@pytest.fixture
def session(counted: str) -> Iterator[Session]:
    with Session(limits=QUICK, ways=[counted]) as made:
        yield made


@pytest.fixture(autouse=True)
def works_afterwards(session: Session) -> Iterator[None]:
    """After every attempt the session still computes."""
    yield
    assert still_computes(session)


def test_a_thread_that_prints_later_is_heard_in_the_next_call(session: Session) -> None:
    code = "import threading, time\ndef late():\n    time.sleep(0.1)\n    print('late')\n"
    assert session.run(code + "threading.Thread(target=late).start()").stdout == ""
    assert session.run("time.sleep(0.3)\nprint('now')").stdout == "late\nnow\n"


def test_the_session_survives_what_code_does_to_its_own_process(session: Session) -> None:
    for code in (
        "import os; os._exit(0)",
        "import os; os.kill(os.getpid(), 9)",
        "import os; os.abort()",
        "import ctypes; ctypes.string_at(0)",
        "import os; os.closerange(0, 100000)",
        "import os; [os.close(int(x)) for x in (1000, 1001, 1002, 1003)]",
    ):
        session.run(code)
        assert session.run("1 + 1").stdout == "2\n", code


def test_replaced_streams_and_builtins_do_not_stick(session: Session) -> None:
    for code in (
        "import sys; sys.stdout = sys.stderr = None",
        "import sys; sys.stdout.close()",
        "import os; os.close(1); os.close(2)",
        "import os; os.dup2(os.open('/dev/null', 1), 1)",
        "import sys; sys.stdout = type('S', (), {'flush': lambda s: 1 / 0, 'write': 1 / 2})()",
        "class E(BaseException):\n    def __str__(self): raise self\nraise E",
        "import signal; signal.signal(signal.SIGTERM, lambda *a: None)",
        "import atexit; atexit.register(lambda: 1 / 0)",
    ):
        session.run(code)
        outcome = session.run("print('heard')")
        assert outcome.stdout == "heard\n", code
        assert outcome.completed, code


def test_a_forged_report_changes_no_other_call(session: Session) -> None:
    """The code may claim what it likes about itself; the next call has its own number."""
    forge = "import os\nfor fd in range(3, 1100):\n    try: os.write(fd, {!r})\n"
    session.run(forge.format(b"c" * 17 * 50) + "    except OSError: pass")
    assert refused(session.run("1 / 0"))
    steal = """
import sys, os
frame = sys._getframe()
while frame and 'head' not in frame.f_locals: frame = frame.f_back
number = frame.f_locals['head'][:16]
os.write(frame.f_locals['ports'].reports, number + b'c')
import time
time.sleep(0.2)
print('after the report')
"""
    session.run(steal)
    assert session.run("'mine'").stdout.endswith("'mine'\n")
    assert refused(session.run("1 / 0"))


def test_a_copy_of_the_process_does_not_answer_too(session: Session) -> None:
    if session.way == "landlock":
        pytest.skip("behind Landlock alone no process is started")
    assert session.run("import os\npid = os.fork()\nNone").completed
    assert session.run("'one'").stdout == "'one'\n"
    assert session.run("os.waitpid(-1, 0)[1] if pid else 0").stdout == "0\n"


def test_a_thief_of_requests_only_harms_itself(session: Session) -> None:
    code = """
import sys, threading, os
frame = sys._getframe()
while 'ports' not in frame.f_locals: frame = frame.f_back
requests = frame.f_locals['ports'].requests
def steal():
    while True: os.read(requests, 1)
for _ in range(4): threading.Thread(target=steal, daemon=True).start()
"""
    session.run(code)
    session.run("import os; os._exit(0)")  # one of them may have got it, and the call runs out
