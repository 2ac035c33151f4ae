"""Several lines make one message where the person says so."""

import pytest

from puna.cli.typed_message import read_message


def messages(*lines: str) -> list[str]:
    left = list(lines)

    def read_line(_: str) -> str:
        if not left:
            raise EOFError
        return left.pop(0)

    found = []
    while True:
        try:
            found.append(read_message(read_line))
        except EOFError:
            return found


def test_a_line_is_a_message() -> None:
    assert messages("one", "", "two") == ["one", "", "two"]


def test_a_backslash_at_the_end_goes_on_in_the_next_line() -> None:
    assert messages("one\\", "two\\", "three", "four") == ["one\ntwo\nthree", "four"]


def test_a_block_between_triple_quotes_is_one_message() -> None:
    assert messages('"""', "def f():", "    return 1\\", "", '"""', "next") == [
        "def f():\n    return 1\\",
        "next",
    ]


def test_a_block_may_open_and_close_on_lines_with_text() -> None:
    assert messages('"""one', 'two"""', '"""alone"""') == ["one\ntwo", "alone"]


@pytest.mark.parametrize("lines", [("one\\",), ('"""', "one")])
def test_an_unfinished_message_ends_with_the_input(lines: tuple[str, ...]) -> None:
    assert messages(*lines) == ["one"]
