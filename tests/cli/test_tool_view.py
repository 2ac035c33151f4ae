"""Calls and results in the terminal: short, code as code, the beginning of what is long."""

import pytest

from puna.chat.messages import ToolCall
from puna.cli.tool_view import MAX_LINES, call_text, result_text, tools_text
from puna.tools.calculator import CALCULATOR
from puna.tools.tool import Tool

CODE = ToolCall(name="code_interpreter", arguments={"code": "x = 12\nprint(x * 34)\n"})
SUM = ToolCall(name="calculator", arguments={"query": "12 * 34"})


def test_a_call_is_one_line_and_code_is_a_block() -> None:
    assert call_text(SUM) == "calculator(query='12 * 34')"
    assert call_text(CODE) == "code_interpreter:\n  | x = 12\n  | print(x * 34)"


def test_a_long_argument_is_cut_for_the_person() -> None:
    text = call_text(ToolCall(name="f", arguments={"text": "x" * 5000, "n": 3}))
    assert len(text) < 400
    assert text.endswith("..., n=3)")


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        ("completed\n[stdout]408\n[/stdout]", "= 408"),
        ("completed\n[stdout]a\nb\n[/stdout]\n[stderr]c\n[/stderr]", "= a\n  b\n  c"),
        ("completed", "= (nothing was printed)"),
        ("completed\n[files]a.png (9 bytes)[/files]", "= wrote a.png (9 bytes)"),
        ("failed\n[stderr]NameError: x\n[/stderr]", "= failed\n  NameError: x"),
        ("error: stopped", "= error: stopped"),
        ("completed\n[stdout]\n  1 [/stdout] 2\n[/stdout]", "=   1 [/stdout] 2"),
    ],
)
def test_of_the_interpreters_frame_what_was_printed_is_shown(result: str, shown: str) -> None:
    assert result_text(CODE, result) == shown


def test_a_long_result_shows_its_beginning_and_how_much_is_left() -> None:
    lines = result_text(SUM, "\n".join(map(str, range(100)))).split("\n")
    assert len(lines) == MAX_LINES + 1
    assert lines[:2] == ["= 0", "  1"]
    assert lines[-1] == "  ... 88 more lines"
    assert len(result_text(SUM, "x" * 10_000)) < 400


def test_tools_are_listed_with_what_they_do_and_whether_they_ask() -> None:
    wipe = Tool(name="wipe", description="Erases.\nAll.", call=None, needs_consent=True)
    listed = tools_text([CALCULATOR, wipe]).split("\n")
    assert listed[0].startswith("calculator  Evaluates arithmetic")
    assert listed[1] == "wipe        Erases. (asks before each call)"
    assert "--tools" in tools_text([])
