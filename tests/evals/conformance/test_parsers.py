"""A right parser passes, also as a program; what a program does wrong is found and told."""

import shlex
import sys
from pathlib import Path

import pytest

import puna
from puna.errors import RequestError, StateError
from puna.evals.conformance.answers import check_parser, cuttings
from puna.evals.conformance.outcome import Report
from puna.evals.conformance.parsers import CommandParser, OwnParser
from puna.evals.conformance.segments import Control, merged
from puna.evals.conformance.vectors import load


def of(report: Report, status: str) -> dict[str, str]:
    return {o.id: o.detail for o in report.outcomes if o.status == status}


def program(tmp_path: Path, body: str) -> CommandParser:
    """Make a program that reads `row` and answers with what `answer(row)` returns."""
    path = tmp_path / "parser.py"
    path.write_text(
        "import json, re, sys\n"
        f"sys.path.insert(0, {str(Path(puna.__file__).parents[1])!r})\n"
        f"{body}\n"
        "for line in sys.stdin:\n    print(json.dumps(answer(json.loads(line))))\n"
    )
    return CommandParser(shlex.join([sys.executable, str(path)]))


def test_puna_s_parser_passes_every_vector_whole_and_in_pieces() -> None:
    report = check_parser(OwnParser(), subject="puna")
    assert of(report, "failed") == {}
    assert report.count("passed") == 2 * len(load("answers"))


def test_puna_s_parser_passes_as_a_program() -> None:
    command = shlex.join([sys.executable, "-m", "puna.evals.conformance.parser_stdin"])
    report = check_parser(CommandParser(command), subject=command)
    assert of(report, "failed") == {}
    assert report.count("passed") == 2 * len(load("answers"))


def test_pieces_join_to_the_answer_and_never_cut_a_control_token() -> None:
    answer = ("Let me see. ", Control("<|python_tag|>"), "brave_search.call()")
    for name, chunks in cuttings("seed", answer):
        assert merged(part for chunk in chunks for part in chunk) == answer
        assert len(chunks) > 5, name
    assert [list(cuttings("s", answer))] == [list(cuttings("s", answer))]


def test_a_parser_of_known_faults_fails_by_their_vectors(tmp_path: Path) -> None:
    """Braces matched to the first `}`, apostrophes turned into quotes, names not looked up."""
    naive = program(
        tmp_path,
        """
def answer(row):
    text = re.sub(r"<\\|[a-z_]+\\|>", "", row["text"])
    found = re.search(r'"name": "(\\w+)", "(?:parameters|arguments)": ({.*?})', text)
    reason = "tool_calls" if found else "stop"
    if not found:
        return {"content": text, "tool_calls": [], "finish_reason": reason}
    try:
        arguments = json.loads(found[2].replace("'", '"'))
    except ValueError:
        arguments = {}
    call = {"function": {"name": found[1], "arguments": json.dumps(arguments)}}
    return {"content": None, "tool_calls": [call], "finish_reason": reason}
""",
    )
    report = check_parser(naive, subject="naive")
    faults = of(report, "failed")
    assert {
        "answers.json.nested",  # T1
        "answers.json.apostrophe",  # T2
        "answers.text.json-undeclared",  # T5
        "answers.json.two",  # T8
        "answers.text.json-in-prose",  # T13
        "answers.stop.length",  # B4
    } <= set(faults)
    assert "answers.json.plain" not in faults
    assert "it\\'s" not in faults["answers.json.apostrophe"]
    assert report.is_well is False


def test_a_program_may_refuse(tmp_path: Path) -> None:
    shy = program(tmp_path, 'def answer(row):\n    return {"refused": "not today"}')
    report = check_parser(shy, subject="shy")
    assert set(of(report, "refused").values()) == {"not today"}
    assert report.count("failed") == 0
    assert not report.is_well  # it has not shown that it can do anything


def test_a_program_that_cannot_stream_refuses_the_pieces_alone(tmp_path: Path) -> None:
    whole = program(
        tmp_path,
        "from puna.evals.conformance.parser_stdin import _said\n"
        "from puna.evals.conformance.parsers import OwnParser\n"
        "def answer(row):\n"
        '    if "chunks" in row:\n'
        '        return {"refused": "no streams"}\n'
        "    (found,) = OwnParser().parse([_said(row)])\n"
        '    calls = [{"name": n, "arguments": a} for n, a in found.calls]\n'
        '    return {"content": found.content, "tool_calls": calls,\n'
        '            "finish_reason": found.finish_reason}',
    )
    report = check_parser(whole, subject="whole")
    assert report.is_well
    assert report.by_group()["streams"]["refused"] == len(load("answers"))


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        ("[1]", "no JSON object"),
        ('{"tool_calls": [7]}', "no tool call: 7"),
        ('{"tool_calls": [{"name": "f", "arguments": "{"}]}', "arguments that are no JSON"),
        ('{"content": 3}', "content is int"),
    ],
)
def test_malformed_lines_of_a_program_are_told(tmp_path: Path, answer: str, detail: str) -> None:
    report = check_parser(
        program(tmp_path, f"def answer(row):\n    return json.loads({answer!r})"), subject="x"
    )
    assert of(report, "failed")["answers.stop.eot"].startswith(detail)


def test_a_program_that_does_not_work_is_an_error_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot be run"):
        check_parser(CommandParser("no-such-program-here"), subject="x")
    with pytest.raises(StateError, match=r"0 lines came back and it ended with 3.*It said: sorry"):
        words = "import sys; print('sorry', file=sys.stderr); sys.exit(3)"
        check_parser(CommandParser(shlex.join([sys.executable, "-c", words])), subject="x")
    with pytest.raises(StateError, match=r"no end after 0\.2 s"):
        sleep = shlex.join([sys.executable, "-c", "import time; time.sleep(60)"])
        check_parser(CommandParser(sleep, timeout_s=0.2), subject="x")
    with pytest.raises(RequestError, match="command is empty"):
        CommandParser(" ")
