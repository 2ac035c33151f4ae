"""A session behaves like a notebook: names live on, the last value is shown, failures are short."""

import os
import threading
import time
from pathlib import Path

import pytest

from puna.errors import NotFoundError, RequestError, StateError
from puna.tools.sandbox.limits import Limits
from puna.tools.sandbox.session import Session
from tests.tools.sandbox.ways import any_way


def test_names_live_from_call_to_call(notebook: Session) -> None:
    assert notebook.run("import math\ndef f(x):\n    return math.sqrt(x) + y\ny = 3").text == (
        "completed"
    )
    assert notebook.run("f(16)").stdout == "7.0\n"


def test_the_last_expression_is_shown_and_none_is_not(notebook: Session) -> None:
    assert notebook.run("1\n'a'\n[2]").stdout == "[2]\n"
    assert notebook.run("_ + [3]").stdout == "[2, 3]\n"
    assert notebook.run("None").stdout == ""
    assert notebook.run("a = 1;").stdout == ""
    assert notebook.run("# only a remark").completed
    assert notebook.run("").completed


def test_a_result_has_the_frame_that_llama_was_taught(notebook: Session) -> None:
    """The worked example 4 of the prompt format: `completed`, then the stream between its marks."""
    assert notebook.run("print(2+2)").text == "completed\n[stdout]4\n[/stdout]"
    both = notebook.run("import sys\nprint('a', end='')\nprint('b', file=sys.stderr)").text
    assert both == "completed\n[stdout]a\n[/stdout]\n[stderr]b\n[/stderr]"


def test_a_failure_shows_the_cell_and_not_the_sandbox(notebook: Session) -> None:
    notebook.run("def g(n):\n    return 10 / n")
    outcome = notebook.run("print('before')\ng(0)")
    assert not outcome.completed
    assert outcome.stdout == "before\n"
    assert outcome.text.startswith("failed\n[stdout]before\n[/stdout]\n[stderr]Traceback")
    assert "line 2, in g\n    return 10 / n" in outcome.stderr
    assert outcome.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert "worker.py" not in outcome.stderr
    assert outcome.lost is None


def test_a_traceback_leaves_out_the_inside_of_libraries(notebook: Session) -> None:
    outcome = notebook.run("import json\njson.loads('[1,')")
    assert outcome.stderr.count("File ") == 2
    assert outcome.stderr.endswith("column 4 (char 3)\n")


def test_a_deep_recursion_has_a_short_traceback(notebook: Session) -> None:
    outcome = notebook.run("def h(n): return h(n + 1)\nh(0)")
    assert "RecursionError" in outcome.stderr
    assert len(outcome.stderr) < 2000


def test_code_that_cannot_be_parsed_fails_with_its_place(notebook: Session) -> None:
    outcome = notebook.run("x = 1\nfor")
    assert not outcome.completed
    assert "line 2" in outcome.stderr
    assert outcome.stderr.endswith("SyntaxError: invalid syntax\n")
    assert not notebook.run("x = '\0'").completed
    assert not notebook.run("(" * 3000).completed


def test_leaving_ends_the_cell_and_not_the_session(notebook: Session) -> None:
    notebook.run("kept = 1")
    assert notebook.run("exit()").completed
    assert notebook.run("import sys; sys.exit(3)").stderr == "SystemExit: 3\n"
    assert notebook.run("kept").stdout == "1\n"


def test_input_has_an_end_at_once(notebook: Session) -> None:
    assert "EOFError" in notebook.run("input('name?')").stderr


def test_classes_of_a_cell_can_be_pickled(notebook: Session) -> None:
    code = "import pickle\nclass P:\n    pass\ntype(pickle.loads(pickle.dumps(P()))) is P"
    assert notebook.run(code).stdout == "True\n"


def test_text_of_every_kind_arrives(notebook: Session) -> None:
    assert notebook.run("'ñandú 🦙'").stdout == "'ñandú 🦙'\n"
    assert notebook.run("print('\\ud800')").stdout == "\\ud800\n"
    assert notebook.run("import os\nos.write(1, b'\\xff\\xfe!');").stdout == "\ufffd\ufffd!"


def test_programs_started_by_the_code_write_into_the_result(notebook: Session) -> None:
    if notebook.way == "landlock":
        pytest.skip("behind Landlock alone no program is started")
    assert notebook.run("import os\nos.system('echo hello')").stdout == "hello\n0\n"
    code = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'print(6 * 7)'], "
    assert notebook.run(code + "capture_output=True, text=True).stdout").stdout == "'42\\n'\n"


def test_new_files_are_listed_and_can_be_read(notebook: Session) -> None:
    code = (
        "import os\nos.makedirs('out', exist_ok=True)\nopen('out/t.csv', 'w').write('a,b\\n1,2\\n')"
    )
    outcome = notebook.run(code)
    assert [(file.name, file.size_bytes) for file in outcome.files] == [("out/t.csv", 8)]
    assert outcome.text.endswith("[files]out/t.csv (8 bytes)[/files]")
    assert notebook.read("out/t.csv") == b"a,b\n1,2\n"
    assert notebook.run("open('out/t.csv').read()").files == ()


@pytest.mark.parametrize("owner", ["the caller", "another user"])
def test_files_of_the_folder_are_there_to_read_and_write(
    way: str, owner: str, tmp_path: Path
) -> None:
    if owner == "another user" and os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    tmp_path.chmod(0o700)
    (tmp_path / "in.json").write_text('{"n": [1, 2]}')
    (tmp_path / "in.json").chmod(0o600)
    if owner == "another user":
        for path in (tmp_path, tmp_path / "in.json"):
            os.chown(path, 12345, 12345)
    with Session(tmp_path, ways=[way]) as session:
        outcome = session.run("import json\nd = json.load(open('in.json'))\nsum(d['n'])")
        assert outcome.stdout == "3\n", outcome.text
        assert session.run("import os; os.getuid() != 0").stdout == "True\n"
        made = session.run("open('out.txt', 'w').write('x')")
        assert [file.name for file in made.files] == ["out.txt"]
    assert (tmp_path / "out.txt").read_text() == "x"
    assert (tmp_path / "out.txt").stat().st_uid == tmp_path.stat().st_uid
    assert tmp_path.stat().st_uid == (12345 if owner == "another user" else os.geteuid())


def test_a_plot_is_a_file(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with Session(ways=[any_way()]) as session:
        code = "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.savefig('p.png');"
        outcome = session.run(code)
        assert [file.name for file in outcome.files] == ["p.png"], outcome.text
        assert session.read("p.png").startswith(b"\x89PNG")
        outcome = session.run("plt.figure()\nplt.show()")
        assert [file.name for file in outcome.files] == ["figure-1.png", "figure-2.png"]
        assert outcome.stderr == ""
        assert session.run("plt.get_fignums()").stdout == "[]\n"


def test_a_temporary_folder_goes_with_the_session() -> None:
    with Session(ways=[any_way()]) as session:
        session.run("import os\nos.makedirs('/'.join('d' * 30))\nos.chmod('d', 0)")
        folder, scratch = session.folder, session._scratch
    assert not folder.exists()
    assert not scratch.exists()
    with pytest.raises(StateError, match="the session is closed"):
        session.run("1")


def test_a_running_call_can_be_interrupted(notebook: Session) -> None:
    timer = threading.Timer(0.2, notebook.interrupt)
    timer.start()
    began = time.monotonic()
    outcome = notebook.run("import time\ntime.sleep(60)")
    assert time.monotonic() - began < 1.5
    assert outcome.lost == "was interrupted"
    assert notebook.run("1 + 1").stdout == "2\n"


def test_a_folder_that_holds_more_than_files_is_refused(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in ("/", tmp_path, Path(__file__).parents[3]):
        with pytest.raises(RequestError, match="a folder of its own is expected"):
            Session(folder)
    with pytest.raises(NotFoundError, match="does not exist"):
        Session("nowhere/at/all")


def test_limits_are_checked() -> None:
    with pytest.raises(RequestError, match="wall_s=0; more than 0"):
        Limits(wall_s=0)


def test_no_session_starts_without_protection_unless_it_is_asked_for() -> None:
    with pytest.raises(StateError, match="no protection works on this machine"):
        Session(ways=[])
    with Session(ways=[], unprotected=True) as session:
        assert session.way == "none"
        assert session.run("40 + 2").stdout == "42\n"
