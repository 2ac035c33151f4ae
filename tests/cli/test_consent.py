"""Yes, no or always: what the person at the terminal answers before a call runs."""

from puna.chat.messages import ToolCall
from puna.cli.consent import AskInTerminal
from puna.tools.tool import Tool

CALL = ToolCall(name="wipe", arguments={})


def tool(name: str) -> Tool:
    return Tool(name=name, description="", call=lambda arguments: "", needs_consent=True)


def asking(*answers: str) -> tuple[AskInTerminal, list[str]]:
    left, asked = list(answers), []

    def read_line(question: str) -> str:
        asked.append(question)
        if not left:
            raise EOFError
        return left.pop(0)

    return AskInTerminal(read_line), asked


def test_each_call_is_asked_for() -> None:
    ask, asked = asking("y", "n", "YES", "no")
    assert [ask(CALL, tool("wipe")) for _ in range(4)] == [True, False, True, False]
    assert asked == ["Run wipe? [y]es, [n]o, [a]lways: "] * 4


def test_always_holds_for_that_tool_alone() -> None:
    ask, asked = asking("a", "n")
    assert [ask(CALL, tool("wipe")) for _ in range(3)] == [True] * 3
    assert not ask(CALL, tool("send"))
    assert len(asked) == 2


def test_an_unclear_answer_is_asked_again_and_the_end_means_no() -> None:
    ask, asked = asking("", "what?", "y")
    assert ask(CALL, tool("wipe"))
    assert len(asked) == 3
    assert not ask(CALL, tool("wipe"))


def test_a_name_from_elsewhere_cannot_command_the_terminal() -> None:
    ask, asked = asking("n")
    ask(CALL, tool("a\x1b[2Jb"))
    assert asked == ["Run a[2Jb? [y]es, [n]o, [a]lways: "]
