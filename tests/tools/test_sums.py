"""Sums through the tool loop and the real sandbox, asked for by a model that is a script."""

import os
import re
import signal
import threading
from collections.abc import Iterator, Sequence

import pytest

from puna.chat.format import ChatFormat
from puna.chat.messages import Message
from puna.errors import StateError
from puna.evals.arithmetic import arithmetic
from puna.tools.loop import Finished, Returned, StoppedInTool, run_tools
from puna.tools.registry import open_tools
from puna.tools.tool import Tool
from tests.chat.dialogs import BYTES, encode_split

CHAT = ChatFormat(BYTES, "meta")


@pytest.fixture(scope="module")
def interpreter() -> Iterator[Tool]:
    """One session in the sandbox for the whole file."""
    try:
        opened = open_tools(["code"])
        [tool] = opened.__enter__()
    except StateError as error:
        pytest.skip(str(error))
    yield tool
    opened.__exit__(None, None, None)


def says(text: str) -> Message:
    """Read a text of the model as the chat does: from its ids."""
    return CHAT.parse(encode_split(BYTES, text), ["code_interpreter"])


def script(dialog: Sequence[Message]) -> Message:
    """Print the sum that is asked for, then repeat what was printed."""
    CHAT.render(dialog, ["code_interpreter"])  # the dialog stays one that can be written
    last = dialog[-1]
    if last.role == "tool":
        printed = re.findall(r"\[stdout\](.*?)\n?\[/stdout\]", last.content, re.DOTALL)
        return says(f"The answer is {''.join(printed)}.<|eot_id|>")
    a, b = re.findall(r"\d+", last.content)
    signs = {"plus": "+", "Add": "+", "sum": "+", "minus": "-", "subtract": "-", "times": "*"}
    signs |= {"Multiply": "*", "product": "*", "divided": "//", "Divide": "//"}
    [sign] = [sign for word, sign in signs.items() if word in last.content][:1] or re.findall(
        r" ([-+*/]) ", last.content
    )
    return says(f"<|python_tag|>print({a} {sign} {b})<|eom_id|>")


def test_a_sum_is_printed_in_the_sandbox_and_read_back(interpreter: Tool) -> None:
    question = [Message(role="user", content="What is 12 * 34?")]
    events = list(run_tools(script, question, [interpreter]))
    [returned] = [event for event in events if isinstance(event, Returned)]
    assert returned.call.arguments == {"code": "print(12 * 34)"}
    assert returned.result == "completed\n[stdout]408\n[/stdout]"
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.answer.content == "The answer is 408."


def test_the_evaluation_runs_its_sums_in_the_sandbox(interpreter: Tool) -> None:
    def reply(dialogs: Sequence[Sequence[Message]], tools: Sequence[str]) -> list[Message]:
        assert tools == ("code_interpreter",)
        return [script(dialog) for dialog in dialogs]

    call, answer = arithmetic(reply, calculator=interpreter, n=24)
    # "/" gives a fraction where the sum is asked with its sign, so an answer may end in ".0".
    assert call.value == 1.0
    by_operator = answer.detail["by_operator"]
    assert all(by_operator[sign]["right"] == by_operator[sign]["n"] for sign in "+-*")


def test_variables_stay_from_turn_to_turn_of_a_dialog(interpreter: Tool) -> None:
    """Each call runs in a thread of its own; the session outlives them all."""
    answers = iter(["<|python_tag|>x = 12 * 34<|eom_id|>", "Kept.<|eot_id|>",
                    "<|python_tag|>print(x + 1)<|eom_id|>", "Done.<|eot_id|>"])  # fmt: skip
    dialog: Sequence[Message] = [Message(role="user", content="Keep it.")]
    for _ in range(2):
        last = list(run_tools(lambda _: says(next(answers)), dialog, [interpreter]))[-1]
        assert isinstance(last, Finished)
        dialog = [*last.messages, Message(role="user", content="And one more?")]
    assert [m.content for m in dialog if m.role == "tool"][-1] == (
        "completed\n[stdout]409\n[/stdout]"
    )


def test_code_that_hangs_is_stopped_and_the_session_works_after_it(interpreter: Tool) -> None:
    """Ctrl-C reaches the sandbox, the model is told what is lost, and the dialog goes on."""
    hang = "<|python_tag|>while True: pass<|eom_id|>"
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(StoppedInTool) as stopped:
        list(run_tools(lambda _: says(hang), [Message(role="user", content="?")], [interpreter]))
    assert "every variable is gone" in stopped.value.messages[-1].content
    dialog = [*stopped.value.messages, Message(role="user", content="What is 2 + 2?")]
    last = list(run_tools(script, dialog, [interpreter]))[-1]
    assert isinstance(last, Finished)
    assert last.answer.content == "The answer is 4."
