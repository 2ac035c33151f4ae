"""A conversation in the terminal: history, commands, tools, Ctrl-C, a full context."""

import dataclasses
import io
import json
from collections.abc import Callable, Iterator

import pytest

from puna.cli.chat import converse
from puna.cli.consent import AskInTerminal
from puna.cli.conversation import Conversation
from puna.cli.main import main
from puna.cli.screen import printable
from puna.llm import LLM, Options, load
from puna.tools.calculator import CALCULATOR
from puna.tools.loop import STOPPED
from tests.llm.folders import save_run
from tests.llm.scripted import EOM, EOT, TAG, ids_of, scripted
from tests.testdata import testdata


class Recorder:
    """A screen that remembers."""

    def __init__(self) -> None:
        self.texts: list[str] = [""]
        self.notes: list[str] = []
        self.on_text: Callable[[], None] = lambda: None

    def text(self, piece: str) -> None:
        self.texts[-1] += piece
        self.on_text()

    def note(self, line: str) -> None:
        self.notes.append(line)

    def end(self) -> None:
        self.texts.append("")


def talk_with(
    llm: LLM, *, system: str | None = None, max_tokens: int | None = None
) -> tuple[Conversation, Recorder]:
    screen, options = Recorder(), Options(temperature=0, max_tokens=max_tokens)
    talk = Conversation(llm, screen, system=system, tools=llm.style.tools, options=options)
    return talk, screen


def hear(talk: Conversation, *lines: str | BaseException) -> None:
    left: Iterator[str | BaseException] = iter(lines)

    def read_line(_: str) -> str:
        line = next(left, EOFError())
        if isinstance(line, BaseException):
            raise line
        return line

    converse(talk, read_line)
    assert next(left, None) is None, "the chat left before its input ended"


def said(talk: Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in talk.messages]


def test_the_history_grows_and_is_read_again() -> None:
    llm = scripted(ids_of("Hello.", EOT), ids_of("Fine.", EOT))
    talk, screen = talk_with(llm, system="Be brief.")
    hear(talk, "Hi", "How are you?")
    assert screen.texts == ["Hello.", "Fine.", ""]
    assert said(talk) == [
        ("system", "Be brief."),
        ("user", "Hi"), ("assistant", "Hello."),
        ("user", "How are you?"), ("assistant", "Fine."),
    ]  # fmt: skip
    assert llm.model.prompts[1] == llm.format.render(talk.messages[:-1]).ids


def test_reset_forgets_the_turns_and_system_sets_the_rule() -> None:
    talk, _ = talk_with(scripted(ids_of("A", EOT), ids_of("B", EOT)))
    hear(talk, "one", "/reset", "/system Be kind.", "two")
    assert said(talk) == [("system", "Be kind."), ("user", "two"), ("assistant", "B")]


def test_save_writes_the_conversation_as_json(tmp_path) -> None:
    talk, screen = talk_with(scripted(ids_of("é", EOT)))
    path = tmp_path / "talk.json"
    hear(talk, "Hi", f"/save {path}")
    assert json.loads(path.read_text()) == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "é"},
    ]
    assert "2 messages" in screen.notes[-1]


def test_a_file_that_cannot_be_written_ends_nothing(tmp_path) -> None:
    talk, screen = talk_with(scripted(ids_of("A", EOT)))
    hear(talk, f"/save {tmp_path}", "/save", "Hi")
    assert "was not written" in screen.notes[0]
    assert "name of a file" in screen.notes[1]
    assert screen.texts[0] == "A"


def test_quit_leaves_and_help_lists_the_commands() -> None:
    talk, screen = talk_with(scripted())
    hear(talk, "/help", "/quit")
    for command in ("/system", "/tools", "/reset", "/save", "/help", "/quit"):
        assert command in screen.notes[0]


def test_an_unknown_command_is_not_sent_to_the_model() -> None:
    llm = scripted()
    talk, screen = talk_with(llm)
    hear(talk, "/rest")
    assert "/rest is no command" in screen.notes[0]
    assert llm.model.prompts == []


def test_two_slashes_send_a_text_that_begins_with_one() -> None:
    talk, _ = talk_with(scripted(ids_of("A", EOT)))
    hear(talk, "//etc is a folder")
    assert said(talk)[0] == ("user", "/etc is a folder")


def test_empty_lines_are_not_sent() -> None:
    llm = scripted()
    hear(talk_with(llm)[0], "", "   ")
    assert llm.model.prompts == []


def test_ctrl_c_stops_an_answer_and_keeps_what_was_said() -> None:
    llm = scripted(ids_of("one two three", EOT), ids_of("next", EOT))
    talk, screen = talk_with(llm)

    def interrupt() -> None:
        if screen.texts[-1] == "one":
            screen.on_text = lambda: None
            raise KeyboardInterrupt

    screen.on_text = interrupt
    hear(talk, "Count", "Go on")
    assert said(talk)[1] == ("assistant", "one")
    assert screen.notes == ["(stopped)"]
    assert said(talk)[3] == ("assistant", "next")


def test_ctrl_c_twice_at_the_prompt_leaves_and_once_does_not() -> None:
    talk, screen = talk_with(scripted(ids_of("A", EOT)))
    hear(talk, KeyboardInterrupt(), "Hi", KeyboardInterrupt(), KeyboardInterrupt())
    assert len(screen.notes) == 2
    assert said(talk) == [("user", "Hi"), ("assistant", "A")]


def test_a_full_context_is_said_with_counts_and_nothing_is_cut() -> None:
    llm = scripted(ids_of("A", EOT), ids_of("B", EOT), context=130)
    talk, screen = talk_with(llm)
    hear(talk, "Hi", "far too long " * 10, "ok")
    [note] = screen.notes
    assert "the model's context is 130" in note
    assert "/reset" in note
    assert said(talk) == [("user", "Hi"), ("assistant", "A"), ("user", "ok"), ("assistant", "B")]


def test_what_the_format_refuses_is_said_and_the_chat_goes_on() -> None:
    talk, screen = talk_with(scripted(ids_of("A", EOT)))
    hear(talk, "half a pair: \ud83e", "Hi")
    assert "surrogate" in screen.notes[0]
    assert said(talk) == [("user", "Hi"), ("assistant", "A")]


def test_an_answer_that_the_context_cuts_off_says_so() -> None:
    talk, screen = talk_with(scripted(ids_of("word " * 100), context=60))
    hear(talk, "Hi")
    assert "fill the context of 60. Type /reset" in screen.notes[-1]


def test_an_answer_that_max_tokens_cuts_off_says_so() -> None:
    talk, screen = talk_with(scripted(ids_of("word " * 100)), max_tokens=7)
    hear(talk, "Hi")
    assert screen.notes == ["(cut off: 7 tokens, all that --max-tokens allows)"]


def test_a_tool_call_is_run_and_shown_apart_from_the_answer() -> None:
    call = ids_of(TAG, 'calculator.call(query="12 * 34")', EOM)
    llm = scripted(call, ids_of("It is 408.", EOT), tools=(CALCULATOR,))
    talk, screen = talk_with(llm)
    hear(talk, "What is 12 * 34?")
    assert screen.texts[0] == "It is 408."
    assert "12 * 34" in screen.notes[0]
    assert "408" in screen.notes[1]
    assert [role for role, _ in said(talk)] == ["user", "assistant", "tool", "assistant"]
    assert llm.model.prompts[1] == llm.format.render(talk.messages[:-1], ["calculator"]).ids


def test_what_would_command_the_terminal_is_not_shown() -> None:
    assert printable("a\x1b[2Jb\tc\nd\x9b1m\x07é") == "a[2Jb\tc\nd1mé"


def test_a_pipe_sends_a_line_a_message_and_stdout_holds_the_answers(
    tmp_path, monkeypatch, capsys
) -> None:
    """A run folder of random weights: two messages, two answers, the commands obeyed in between."""
    monkeypatch.setattr("sys.stdin", io.StringIO("Hi\n/help\n\nagain\n/nonsense\n"))
    words = ["chat", str(save_run(tmp_path)), "--temperature", "0", "--max-tokens", "4"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert out.endswith("\n")
    assert "/reset" in err
    assert "/nonsense is no command" in err
    dialog = [{"role": "user", "content": "Hi"}]
    first = load(tmp_path).chat(dialog, tools=[CALCULATOR], temperature=0, max_tokens=4)
    assert out.startswith(first.content + "\n")


@pytest.mark.parametrize(
    ("typed", "option", "said"),
    [
        (b"far too long " * 200, "--seed=1", "the model's context is 256"),
        (b"Hi\n", "--max-tokens=-1", "max_tokens=-1 was given"),
        (b"Hi\n", "--temperature=-1", "temperature=-1.0 was given"),
        (b"caf\xe9\n", "--seed=1", "UTF-8 is expected"),
    ],
)
def test_a_pipe_with_a_message_that_got_no_answer_ends_with_exit_1(
    typed, option, said, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed), "utf-8"))
    assert main(["chat", str(save_run(tmp_path)), option]) == 1
    out, err = capsys.readouterr()
    assert out.strip() == ""
    assert said in err
    assert err.count("\n") == 1


def test_a_model_without_a_chat_format_is_one_line_and_exit_1(capsys) -> None:
    stories = str(testdata("weights/stories260K/stories260K-f32.gguf"))
    assert main(["chat", stories]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "no chat format is known" in err


# Tools


def test_tools_lists_what_the_model_may_call() -> None:
    talk, screen = talk_with(scripted(tools=(CALCULATOR,)))
    hear(talk, "/tools")
    assert screen.notes[0].startswith("calculator  Evaluates arithmetic exactly")


def interrupted(arguments: dict[str, object]) -> str:
    raise KeyboardInterrupt


def test_ctrl_c_in_a_tool_keeps_a_dialog_that_goes_on() -> None:
    call = ids_of(TAG, 'calculator.call(query="1")', EOM)
    broken = dataclasses.replace(CALCULATOR, call=interrupted)
    llm = scripted(call, ids_of("Well.", EOT), tools=(broken,))
    talk, screen = talk_with(llm, system="Be brief.")
    hear(talk, "Work", "Never mind")
    assert screen.notes == ["calculator(query='1')", "(stopped)"]
    assert said(talk)[1:] == [
        ("user", "Work"), ("assistant", ""), ("tool", STOPPED),
        ("user", "Never mind"), ("assistant", "Well."),
    ]  # fmt: skip
    assert llm.model.prompts[1] == llm.format.render(talk.messages[:-1], ["calculator"]).ids


@pytest.mark.parametrize(("answer", "result"), [("y", "408"), ("n", "the person did not allow")])
def test_a_tool_that_needs_consent_asks_in_the_terminal(answer: str, result: str) -> None:
    call = ids_of(TAG, 'calculator.call(query="12 * 34")', EOM)
    asking = dataclasses.replace(CALCULATOR, needs_consent=True)
    llm = scripted(call, ids_of("Done.", EOT))
    screen, questions = Recorder(), []

    def read_line(question: str) -> str:
        questions.append((question, list(screen.notes)))
        return answer

    talk = Conversation(
        llm, screen, system=None, tools=[asking], options=Options(temperature=0),
        consent=AskInTerminal(read_line),
    )  # fmt: skip
    hear(talk, "What is 12 * 34?")
    [(question, shown)] = questions
    assert question.startswith("Run calculator?")
    assert shown == ["calculator(query='12 * 34')"], "the call is shown before the question"
    assert result in screen.notes[1]


def test_the_tools_of_the_command_line_are_shown_to_the_model(
    tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("/tools\n"))
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "a.txt").write_text("Llamas eat grass.")
    words = ["chat", str(save_run(tmp_path)), "--tools", f"calc,search:{notes}"]
    assert main(words) == 0
    err = capsys.readouterr().err
    assert "calculator    Evaluates" in err
    assert "brave_search  Searches a collection of documents." in err


def test_a_tool_that_does_not_exist_is_said_before_the_model_is_loaded(tmp_path, capsys) -> None:
    assert main(["chat", str(tmp_path / "nothing"), "--tools", "calk"]) == 1
    err = capsys.readouterr().err
    assert "Did you mean 'calc'?" in err
    assert err.count("\n") == 1


def test_a_chat_can_have_no_tools(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("/tools\n"))
    assert main(["chat", str(save_run(tmp_path)), "--tools", "none"]) == 0
    assert "The model has no tools here" in capsys.readouterr().err
