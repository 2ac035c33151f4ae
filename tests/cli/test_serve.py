"""`puna serve` on the command line: what it is given, and what it refuses before it loads."""

import socket
from pathlib import Path

import pytest

from puna.cli.main import main
from puna.cli.serve import names_of, read_keys
from puna.errors import RequestError


def test_models_are_named_by_their_path_or_by_the_operator(tmp_path: Path) -> None:
    (tmp_path / "a=b").mkdir()
    named = names_of([str(tmp_path / "cria"), "small=runs/x", str(tmp_path / "a=b")])
    assert named == {
        "cria": str(tmp_path / "cria"), "small": "runs/x", "a=b": str(tmp_path / "a=b")
    }  # fmt: skip
    with pytest.raises(RequestError, match="'x' is empty or taken"):
        names_of(["runs/x", "other/x"])
    with pytest.raises(RequestError, match="at least one"):
        names_of([])


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEYS", "a, b,")
    assert read_keys("MY_KEYS") == ("a", "b")
    assert read_keys(None) == ()
    monkeypatch.setenv("MY_KEYS", " ")
    with pytest.raises(RequestError, match="no keys in MY_KEYS"):
        read_keys("MY_KEYS")


def test_a_port_in_use_is_told_before_a_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", str(tmp_path / "nothing"), "--port", port]) == 1
    assert "cannot be listened on" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(tmp_path / "nothing"), "--port", "0"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
