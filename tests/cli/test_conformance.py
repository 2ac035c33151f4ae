"""`puna conformance`: a table for people, JSON for programs, and a code that says how it went."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from puna.cli.main import main
from puna.evals.conformance.vectors import load
from tests.evals.conformance.fake_server import serve
from tests.evals.conformance.test_templates import FRAME


def test_without_a_target_puna_checks_itself(capsys) -> None:
    assert main(["conformance", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "puna, dialect hf: " in out
    assert out.count(" 0 failed") == 4


def test_a_template_with_a_fault_ends_with_1_and_shows_where(capsys, tmp_path: Path) -> None:
    path = tmp_path / "broken.jinja"
    path.write_text(FRAME.replace("{{- bos_token }}", "{{- bos_token + bos_token }}"))
    assert main(["conformance", "--template", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"{path}: ")
    assert "failed  prompts.chat" in err
    assert "guards against: B1" in err
    assert "dialect" in err


def test_json_holds_every_verdict(capsys, tmp_path: Path) -> None:
    path = tmp_path / "frame.jinja"
    path.write_text(FRAME)
    assert main(["conformance", "--template", str(path), "--json", "--quiet"]) == 0
    (table,) = json.loads(capsys.readouterr().out)
    assert table["is_well"] is True
    assert table["facts"]["functions"] == "yes"
    assert {"id", "status", "detail", "pitfalls", "source"} <= set(table["outcomes"][0])
    assert table["groups"]["injection"]["passed"] > 10


def test_a_server_is_asked_with_the_key_of_the_environment(capsys, monkeypatch) -> None:
    monkeypatch.setenv("FAKE_KEY", "secret")
    with serve(key="secret") as url:
        words = ["conformance", "--url", url, "--key-env", "FAKE_KEY", "--group", "requests"]
        assert main(words) == 0
        assert main([*words[:3], "--quiet"]) == 1
    out, err = capsys.readouterr()
    count = len(load("requests"))
    assert f"{url}: {count} passed, 0 failed" in out
    assert f"conformance: {count}/{count}" in err
    assert "refuses the key" in err
    assert "secret" not in out + err


def test_a_parser_is_a_program(capsys) -> None:
    command = shlex.join([sys.executable, "-m", "puna.evals.conformance.parser_stdin"])
    assert main(["conformance", "--parser", command, "--quiet"]) == 0
    assert " 0 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--url", "http://127.0.0.1:1/v1"], "no answer (connection refused)"),
        (["--url", "http://x/v1", "--template", "y"], "--template and --url given; one of them"),
        (["--url", "http://x/v1", "--key-env", "NO_SUCH_VARIABLE"], "no variable NO_SUCH_VARIABLE"),
        (["--template", "no-such.jinja"], "no such file"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(capsys, words: list[str], says: str) -> None:
    assert main(["conformance", *words]) == 1
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
