"""`puna chat`: talk with a model in the terminal, or through a pipe."""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from puna.cli.consent import AskInTerminal
from puna.cli.options import Sampling, Tools, Weights
from puna.cli.screen import PipeScreen, TerminalScreen
from puna.cli.typed_message import read_message
from puna.errors import RequestError
from puna.tools.tool import Tool

if TYPE_CHECKING:
    from puna.cli.conversation import Conversation
    from puna.llm import LLM, Options

KEPT_LINES = 1000  # of what was typed, for the arrow keys


def chat(
    model: str,
    /,
    *,
    system: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    dialect: str | None = None,
    tools: Tools = Tools(),
    sampling: Sampling = Sampling(),
    weights: Weights = Weights(),
) -> int:
    """Talk with a model in the terminal.

    Answers stream, and tools run as the model calls them; without --tools, those that the model was
    raised with (the calculator, for a run of puna). /help lists what can be typed besides messages
    (/system, /tools, /reset, /save, /quit). Ctrl-C stops an answer or a tool. Where stdin is no
    terminal, each line is a message, stdout holds the answers alone, tools that would ask first are
    refused, and the exit code is 1 where a message got no answer.

    For example:
      puna chat runs/cria
      puna chat llama-3.1-8b-instruct --system "Answer in one sentence."
      puna chat llama-3.1-8b-instruct --tools code,calc,search:notes
      puna chat llama-3.1-8b-instruct --tools "mcp:python server.py" --tools wolfram
      echo "What is 12 * 34?" | puna chat runs/cria --temperature 0

    Args:
        model: A run folder, a Hugging Face or Meta folder, a .gguf or a llama2.c .bin file.
        system: The system message.
        dialect: meta, hf, hf3 or llama2; chosen from the model without it.
    """
    names = tools.names  # a wrong one is told before the model is loaded
    llm = weights.load(model)
    if dialect is not None:
        llm.style = dataclasses.replace(llm.style, dialect=dialect, source="the command line")
    _ = llm.format  # says at once where a model has no chat format
    own = llm.style.tools
    with contextlib.nullcontext(own) if names is None else tools.open(own) as offered:
        return talk(llm, offered, model=model, system=system, options=sampling.options())


def talk(
    llm: "LLM", tools: Sequence[Tool], *, model: str, system: str | None, options: "Options"
) -> int:
    """Hold the conversation, with the person at the terminal or with a pipe."""
    from puna.cli.conversation import Conversation

    is_terminal = sys.stdin.isatty()
    screen = TerminalScreen() if is_terminal else PipeScreen()
    consent = AskInTerminal(read_typed) if is_terminal else None
    held = Conversation(llm, screen, system=system, tools=tools, options=options, consent=consent)
    if not is_terminal:
        converse(held, read_piped)
        return 1 if held.refused else 0
    screen.note(f"{model}: {llm.config.parameters:,} parameters. /help shows commands.")
    if tools:
        screen.note(f"tools: {', '.join(tool.name for tool in tools)}")
    with_history(lambda: converse(held, read_typed))
    return 0


def converse(held: "Conversation", read_line: Callable[[str], str]) -> None:
    """Take messages and commands until the input ends or the person leaves."""
    interrupts = 0
    while interrupts < 2:
        try:
            text = read_message(read_line)
        except EOFError:
            return
        except KeyboardInterrupt:
            interrupts += 1
            if interrupts < 2:
                held.screen.note("(Ctrl-C once more leaves)")
            continue
        interrupts = 0
        if text.startswith("/") and not text.startswith("//"):
            if not held.obey(text):
                return
        elif text.strip():
            held.say(text.removeprefix("/") if text.startswith("//") else text)


def read_typed(prompt: str) -> str:
    """Return the next line that the person types."""
    try:
        return input(prompt)
    except (EOFError, KeyboardInterrupt):
        print()  # the shell's prompt, or ours, begins a line of its own
        raise


def read_piped(_: str) -> str:
    """Return the next line of a pipe."""
    try:
        line = sys.stdin.readline()
    except UnicodeDecodeError as error:
        raise RequestError(
            f"stdin: the bytes are no text ({error}); UTF-8 is expected. Convert the input."
        ) from None
    if not line:
        raise EOFError
    return line.removesuffix("\n")


def with_history(run: Callable[[], None]) -> None:
    """Run with the arrow keys remembering what was typed, also in earlier chats."""
    try:
        import readline
    except ImportError:  # a Python without it still chats
        run()
        return
    home = Path(os.environ.get("PUNA_HOME") or Path.home() / ".cache" / "puna")
    kept = home / "chat_history"
    with contextlib.suppress(OSError):  # a chat goes on without its history
        readline.read_history_file(kept)
    readline.set_history_length(KEPT_LINES)
    try:
        run()
    finally:
        with contextlib.suppress(OSError):
            home.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(kept)
