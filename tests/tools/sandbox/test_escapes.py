"""Hostile code wants out: each attempt is stopped, and the session works after it.

The attempts are written out as such code would be, behind every protection that works here. What
they must not reach is made for each test: a secret in a file, in the environment, behind a socket.
"""

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from puna.tools.sandbox.session import Session
from tests.tools.sandbox.attempts import refused, still_computes
from tests.tools.sandbox.conftest import SMALL

SECRET = "a-secret-of-the-parent"


@pytest.fixture(autouse=True)
def works_afterwards(session: Session) -> Iterator[None]:
    """After every attempt the session still computes."""
    yield
    assert still_computes(session)


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder outside the session that every user may read and write, with a secret in it."""
    folder = Path(tempfile.mkdtemp(prefix="outside-"))
    folder.chmod(0o777)
    (folder / "secret").write_text(SECRET)
    (folder / "secret").chmod(0o666)
    yield folder
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def test_nothing_is_written_outside(session: Session, outside: Path) -> None:
    paths = [str(outside / "new"), str(outside / "secret"), "/usr/x", "/etc/x", "/x", "/dev/x"]
    paths += ["/dev/sda", os.__file__, str(Path(__file__).parent / "x")]
    for path in paths:
        assert refused(session.run(f"open({path!r}, 'a').write('x')")), path
        assert not session.run(f"import os\nos.truncate({path!r}, 0)").completed, path
        assert not session.run(f"os.unlink({path!r})").completed, path
        assert not session.run(f"os.chmod({path!r}, 0o777)").completed, path
        assert not session.run(f"os.utime({path!r})").completed, path
        assert not session.run(f"os.rename({path!r}, 'x')").completed, path
        assert not session.run(f"os.link({path!r}, 'x')").completed, path
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == SECRET


def test_files_outside_cannot_be_read(session: Session, outside: Path) -> None:
    for path in (outside / "secret", Path("/etc/shadow"), Path("/etc/hostname"), Path(__file__)):
        assert refused(session.run(f"open({str(path)!r}).read()")), path
    for path in (outside, Path("/home"), Path("/var"), Path(__file__).parent):
        assert refused(session.run(f"import os\nos.listdir({str(path)!r})")), path
    listed = session.run(f"os.listdir({str(Path.home())!r})").stdout  # the way to an interpreter
    assert not set(eval(listed or "[]")) & {".bashrc", ".profile", ".ssh", ".cache"}


def test_links_lead_nowhere(session: Session, outside: Path) -> None:
    (session.folder / "planted").symlink_to(outside / "secret")
    (session.folder / "folder").symlink_to(outside)
    for name in ("planted", "folder/secret"):
        assert refused(session.run(f"open({name!r}).read()"))
    code = f"import os\nos.symlink({str(outside / 'secret')!r}, 'made')\nopen('own', 'w').close()"
    outcome = session.run(code)
    assert outcome.completed
    assert [file.name for file in outcome.files] == ["own"]
    for name in ("made", "planted", "folder/secret", "../secret", "/etc/passwd", ".", ""):
        with pytest.raises(FileNotFoundError):
            session.read(name)


def test_a_pipe_in_the_folder_holds_nobody_up(session: Session) -> None:
    session.run("import os\nos.mkfifo('pipe')\nos.mkdir('closed', 0)")
    with pytest.raises(FileNotFoundError):
        session.read("pipe")
    session.run("os.chmod('closed', 0o700)")


def test_the_environment_of_the_parent_is_not_there(way: str, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with Session(limits=SMALL, ways=[way]) as made:
        assert SECRET not in made.run("import os\ndict(os.environ)").stdout
        code = "import glob\nfor p in glob.glob('/proc/[0-9]*/environ'):\n"
        code += "    try: print(open(p, 'rb').read())\n    except OSError as e: print(p, e.errno)"
        assert SECRET not in made.run(code).stdout


def test_the_parent_cannot_be_seen_or_ended(session: Session) -> None:
    own = os.getpid()
    assert session._process is not None
    for process in (own, session._process.pid):
        for path in ("environ", "mem", "cwd/x", "root/etc/passwd", "fd/0", "maps"):
            assert refused(session.run(f"open('/proc/{process}/{path}', 'rb').read(10)"))
        for number in (9, 15, 19, 0):
            assert refused(session.run(f"import os\nos.kill({process}, {number})"))
    session.run("import os, signal\nfor p in (os.getppid(), 1, 0):\n    os.kill(p, signal.SIGINT)")
    code = "import fcntl\na, b = os.pipe()\nfcntl.fcntl(a, fcntl.F_SETOWN, {})"
    assert refused(session.run(code.format(own)))
    session.run("os.kill(os.getppid(), signal.SIGKILL)")
    session.run("os.kill(os.getppid(), signal.SIGSTOP)")
    session.run("os.kill(-1, signal.SIGKILL)")
    assert session._process.poll() is None


def test_the_keeper_is_closed_to_the_code(session: Session) -> None:
    code = """
import ctypes, os, resource
libc = ctypes.CDLL(None, use_errno=True)
keeper = os.getppid()
def attempt(name, act):
    try: print(name, act())
    except OSError as error: print(name, 'refused')
attempt('mem', lambda: open(f'/proc/{keeper}/mem', 'r+b'))
attempt('fd', lambda: os.listdir(f'/proc/{keeper}/fd'))
attempt('limit', lambda: resource.prlimit(keeper, resource.RLIMIT_NOFILE, (1, 1)))
attempt('cores', lambda: os.sched_setaffinity(0, range(64)))
attempt('nice', lambda: os.setpriority(os.PRIO_PROCESS, keeper, 19))
"""
    lines = session.run(code).stdout.splitlines()
    assert lines == [f"{x} refused" for x in ("mem", "fd", "limit", "cores", "nice")]


def test_no_socket_can_be_opened(session: Session) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    hidden = socket.socket(socket.AF_UNIX)
    name = f"\0puna-test-{os.getpid()}"
    hidden.bind(name)
    hidden.listen()
    port = listener.getsockname()[1]
    kinds = ("AF_INET, socket.SOCK_STREAM", "AF_INET, socket.SOCK_DGRAM", "AF_INET6", "AF_UNIX")
    for kind in (*kinds, "AF_NETLINK, socket.SOCK_RAW", "AF_PACKET, socket.SOCK_RAW"):
        assert refused(session.run(f"import socket\nsocket.socket(socket.{kind})")), kind
    assert refused(session.run(f"socket.create_connection(('127.0.0.1', {port}))"))
    assert refused(session.run(f"socket.socket(socket.AF_UNIX).connect({name!r})"))
    assert refused(session.run("import urllib.request as u\nu.urlopen('http://example.com')"))
    pair = "a, b = socket.socketpair()\na.send(b'x')\nb.recv(1)"
    assert session.run(pair).stdout == "b'x'\n"  # not a way out, and asyncio needs it
    listener.close()
    hidden.close()


CALLS = {  # x86-64 and aarch64 numbers, with arguments that the kernel would look at
    "ptrace": (101, 117, "16, os.getppid(), 0, 0"),
    "mount": (165, 40, "b'none', b'/tmp', b'tmpfs', 0, None"),
    "umount2": (166, 39, "b'/work', 2"),
    "chroot": (161, 51, "b'/tmp'"),
    "unshare": (272, 97, "0x10000000"),
    "clone of a user namespace": (56, 220, "0x10000011, 0, 0, 0, 0"),
    "clone3": (435, 435, "0, 0"),
    "setuid": (105, 146, "0"),
    "setresuid": (117, 147, "0, 0, 0"),
    "keyctl": (250, 219, "0, -3, 0"),
    "bpf": (321, 280, "0, 0, 0"),
    "userfaultfd": (323, 282, "1"),
    "perf_event_open": (298, 241, "0, 0, -1, -1, 0"),
    "io_uring_setup": (425, 425, "4, 0"),
    "process_vm_readv": (310, 270, "os.getppid(), 0, 0, 0, 0, 0"),
    "open_by_handle_at": (304, 265, "-100, 0, 0"),
    "kexec_load": (246, 104, "0, 0, 0, 0"),
    "memfd_create": (319, 279, "b'x', 0"),
    "shmget": (29, 194, "0, 4096, 0o1600"),
    "a call of the future": (999, 999, "0"),
}


@pytest.mark.skipif(os.uname().machine not in ("x86_64", "aarch64"), reason="no table of calls")
def test_dangerous_calls_of_the_kernel_are_refused(session: Session) -> None:
    column = ("x86_64", "aarch64").index(os.uname().machine)
    session.run("import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)")
    for name, call in CALLS.items():
        code = f"print(libc.syscall({call[column]}, {call[2]}), ctypes.get_errno())"
        assert session.run(code).stdout in ("-1 1\n", "-1 38\n"), name  # EPERM, ENOSYS


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x86-64 has two tables of calls")
def test_the_second_table_of_calls_is_closed(session: Session) -> None:
    code = "import ctypes\nprint(ctypes.CDLL(None).syscall(0x40000000 + 41, 2, 1, 0))"
    assert session.run(code).stdout == "-1\n"


def test_no_privilege_is_left_and_none_comes_back(session: Session) -> None:
    code = "import os\nprint(0 in (os.getuid(), os.geteuid(), os.getgid(), *os.getgroups()))"
    assert session.run(code).stdout == "False\n"
    outcome = session.run("print(open('/proc/self/status').read())")
    if outcome.completed:
        facts = dict(line.split(":\t") for line in outcome.stdout.splitlines() if ":\t" in line)
        assert facts["NoNewPrivs"] == "1"
        assert facts["Seccomp"] == "2"
        for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"):
            assert int(facts[name], 16) == 0 or session.way == "landlock", name
    session.run("open('x', 'w').write('#!/bin/sh\\nid')\nos.chmod('x', 0o4755)")
    assert not session.run("os.execv('./x', ['./x'])").completed
