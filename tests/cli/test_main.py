"""The door: one line an error, a code a kind, help at once (ecosystem.md, habits to keep)."""

import importlib
import os
import subprocess
import sys

import pytest

import puna
from puna.cli import main as door
from puna.errors import FormatError


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "puna.cli.main", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=os.environ | environment
    )


@pytest.fixture
def failing(monkeypatch):
    """Put a command into the table that raises what it is told to."""

    def install(error: BaseException) -> None:
        def command() -> None:
            """Fail."""
            raise error

        monkeypatch.setattr(door, "fail", command, raising=False)
        monkeypatch.setitem(door.COMMANDS, "fail", ("puna.cli.main:fail", "Fail."))

    return install


def test_help_lists_every_command_and_examples() -> None:
    done = run("--help", NO_COLOR="1")
    assert done.returncode == 0
    assert done.stderr == ""
    for verb, (_, line) in door.COMMANDS.items():
        assert verb in done.stdout
        assert line.split(",")[0].rstrip(".") in " ".join(done.stdout.split())
    assert "Examples:" in done.stdout
    assert "\x1b" not in done.stdout


def test_help_imports_no_heavy_library() -> None:
    """What keeps `puna --help` under 0.3 s: commands are imported when they are called."""
    code = (
        "import sys; from puna.cli.main import main; main(['--help']);"
        "print(sorted({'torch', 'numpy', 'tiktoken', 'puna.llm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", list(door.COMMANDS))
def test_every_command_has_help_without_torch(verb: str, capsys) -> None:
    module, function = door.COMMANDS[verb][0].split(":")
    assert getattr(importlib.import_module(module), function).__doc__
    assert door.main([verb, "--help"]) == 0
    assert "Usage: puna" in capsys.readouterr().out


def test_paragraphs_of_help_are_wrapped_and_examples_are_not() -> None:
    def command() -> None:
        """Do it.

        A paragraph that goes on
        in the next line.

        For example:
          puna one
          puna two

        Args:
            x: nothing.
        """

    assert door.description(command) == (
        "Do it.\n\nA paragraph that goes on in the next line.\n\n"
        "For example:\n  puna one\n  puna two"
    )


def test_version_is_the_package_s(capsys) -> None:
    assert door.main(["--version"]) == 0
    assert capsys.readouterr().out == f"puna {puna.__version__}\n"


def test_an_unknown_command_names_the_nearest_and_exits_2(capsys) -> None:
    assert door.main(["genrate"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "unknown command 'genrate'. Did you mean 'generate'?" in err


@pytest.mark.parametrize(
    "words",
    [["generate"], ["generate", "m", "--prompt"], ["generate", "m", "--prompt", "x", "--no"]],
)
def test_a_wrong_command_line_exits_2(words: list[str], capsys) -> None:
    assert door.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("puna: ")


def test_a_foreseen_error_is_one_line_on_stderr_and_exits_1(failing, capsys) -> None:
    failing(FormatError("x.gguf: it is empty; a model is expected."))
    assert door.main(["fail"]) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", "puna: x.gguf: it is empty; a model is expected.\n")


def test_debug_shows_the_traceback_too(failing, capsys) -> None:
    failing(FormatError("broken."))
    assert door.main(["fail", "--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("puna: broken.\n")


def test_a_full_disk_is_one_line_too(failing, capsys) -> None:
    failing(OSError(28, "No space left on device", "model.safetensors"))
    assert door.main(["fail"]) == 1
    assert capsys.readouterr().err == "puna: model.safetensors: No space left on device\n"


def test_ctrl_c_exits_130(failing, capsys) -> None:
    failing(KeyboardInterrupt())
    assert door.main(["fail"]) == 130
    assert capsys.readouterr().err == "puna: interrupted.\n"


def test_an_unforeseen_error_is_not_hidden(failing) -> None:
    failing(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        door.main(["fail"])
