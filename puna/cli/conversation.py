"""The state of a chat in the terminal: its messages, its commands, and one exchange after another.

It knows no terminal: text goes to the `Screen` it is given, lines come from `puna.cli.chat`.
"""

import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from puna.chat.messages import Message, Usage, to_openai
from puna.cli.tool_view import call_text, result_text, tools_text
from puna.errors import ContextError, RequestError
from puna.files import write_json
from puna.llm import LLM, Options
from puna.tools.execute import Consent
from puna.tools.loop import Called, Finished, Returned, StoppedInTool, run_tools
from puna.tools.tool import Tool

HELP = """\
/system TEXT   set the system message (without TEXT: show it)
/tools         list the tools that the model may call
/reset         forget the conversation; the system message stays
/save FILE     write the conversation as JSON
/help          show this
/quit          leave (also Ctrl-D, or Ctrl-C twice)
A line that ends with \\ goes on in the next one; a block between lines of \"\"\" is one message.
A message that begins with / is written with //. Ctrl-C stops an answer or a tool; what was said
stays."""


class Screen(Protocol):
    """Where a conversation is shown."""

    def text(self, piece: str) -> None:
        """Show a piece of an answer."""

    def note(self, line: str) -> None:
        """Show a line that nobody in the dialog said: a tool's call or result, a hint."""

    def end(self) -> None:
        """End the answer."""


class Conversation:
    """One dialog with a model."""

    def __init__(
        self,
        llm: LLM,
        screen: Screen,
        *,
        system: str | None,
        tools: Sequence[Tool],
        options: Options,
        consent: Consent | None = None,
    ) -> None:
        self._llm, self.screen, self._options = llm, screen, options
        self._tools, self._consent = list(tools), consent
        self.system = system
        self.turns: list[Message] = []  # without the system message
        self.refused = 0  # messages that could not be answered

    @property
    def messages(self) -> list[Message]:
        """Everything the model reads."""
        opening = [Message(role="system", content=self.system)] if self.system else []
        return [*opening, *self.turns]

    def obey(self, line: str) -> bool:
        """Carry out a command such as `/reset`; return False where it asks to leave."""
        name, _, rest = line.partition(" ")
        rest = rest.strip()
        commands: Mapping[str, Callable[[str], str]] = {
            "/system": self._set_system,
            "/tools": lambda _: tools_text(self._tools),
            "/reset": self._reset,
            "/save": self._save,
            "/help": lambda _: HELP,
            "/quit": lambda _: "",
        }
        if name not in commands:
            self.screen.note(f"{name} is no command; /help lists them. // begins a text with /.")
            return True
        reply = commands[name](rest)
        if reply:
            self.screen.note(reply)
        return name != "/quit"

    def say(self, text: str) -> None:
        """Send a message and show the answer; both are kept.

        A message for which there is no room is taken back, so that the conversation stays usable.
        """
        before = list(self.turns)
        try:
            self.turns.append(Message(role="user", content=text))
            self._exchange()
        except (ContextError, RequestError) as error:
            # No room for it, or no place in the format: the person may put it otherwise.
            self.turns = before
            self.refused += 1
            hint = " Type /reset to begin anew." if isinstance(error, ContextError) else ""
            self.screen.note(f"{error}{hint}")
        except StoppedInTool as stopped:  # its call has a result that says so
            self.turns = list(stopped.messages[len(self.messages) - len(self.turns) :])
            self.screen.note("(stopped)")
        except KeyboardInterrupt:  # between the steps: nothing was said yet
            self.turns = before
            self.screen.note("(stopped; the message is taken back)")
        finally:
            self.screen.end()

    def _exchange(self) -> None:
        """Let the model answer, with its tools where it calls them."""
        opening = len(self.messages) - len(self.turns)
        turn = run_tools(self._reply, self.messages, self._tools, consent=self._consent)
        for event in turn:
            match event:
                case Called(call=call):
                    self.screen.note(call_text(call))
                case Returned(call=call, result=result):
                    self.screen.note(result_text(call, result))
                case Finished(reason=reason, messages=messages):
                    self.turns = list(messages[opening:])
                    if reason == "max_steps":
                        self.screen.note("(stopped: the model went on calling tools)")

    def _reply(self, messages: Sequence[Message]) -> Message:
        """Let the model answer and show it; Ctrl-C keeps what was said."""
        day = None if self._llm.style.dialect == "meta" else datetime.date.today()
        answer = self._llm.stream(messages, self._tools, day, **self._options)
        try:
            for piece in answer:
                self.screen.text(piece)
        except KeyboardInterrupt:
            self.screen.text(answer.finish())
            self.screen.note("(stopped)")
            return dataclasses.replace(answer.message, tool_calls=(), finish_reason="stop")
        if answer.message.finish_reason == "length":
            self.screen.note(self._why_cut(answer.usage))
        return answer.message

    def _why_cut(self, usage: Usage) -> str:
        context = self._llm.config.context
        if usage.total_tokens < context:
            return f"(cut off: {usage.completion_tokens} tokens, all that --max-tokens allows)"
        return (
            f"(cut off: {usage.prompt_tokens} tokens read and {usage.completion_tokens} written "
            f"fill the context of {context}. Type /reset to begin anew.)"
        )

    def _set_system(self, text: str) -> str:
        if text:
            self.system = text
            return "The system message is set."
        return f"System message: {self.system}" if self.system else "There is no system message."

    def _reset(self, _: str) -> str:
        self.turns = []
        return "The conversation is forgotten."

    def _save(self, name: str) -> str:
        if not name:
            return "/save needs the name of a file."
        path = Path(name).expanduser()
        try:
            write_json(path, [to_openai(message) for message in self.messages])
        except (OSError, RequestError) as error:
            return f"{path} was not written: {error}"
        return f"{len(self.messages)} messages are written to {path}."
