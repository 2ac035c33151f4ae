"""`puna <verb>`: finds the command, runs it, and turns what goes wrong into one line and a code.

Commands live in files of their own and are imported when they are called, so that `puna --help`
answers at once. Results go to stdout; notes, progress and errors go to stderr. Exit codes: 0 done,
1 it failed, 2 the command line is wrong, 130 interrupted by Ctrl-C.
"""

import difflib
import gc
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from cyclopts import App, CycloptsError, Parameter

import puna
from puna.errors import PunaError
from puna.log import show

# verb: (module:function, its line in the list of commands)
COMMANDS: dict[str, tuple[str, str]] = {
    "raise": ("puna.cli.stages:raise_", "Raise a model: raw pages become an assistant."),
    "chat": ("puna.cli.chat:chat", "Talk with a model in the terminal."),
    "serve": ("puna.cli.serve:serve", "Serve models over HTTP, with a chat page."),
    "deploy": ("puna.cli.deploy:deploy", "Write the files that run a model as a service."),
    "generate": ("puna.cli.generate:generate", "Continue a text, or answer a prompt."),
    "tokenize": ("puna.cli.tokenize:tokenize", "Show the ids of a text and their pieces."),
    "inspect": ("puna.cli.inspect:inspect", "Show a model's shape, memory and formats."),
    "convert": ("puna.cli.convert:convert", "Write a model in another format."),
    "quantize": ("puna.cli.quantize:quantize", "Write a model in fewer bits."),
    "curate": ("puna.cli.stages:curate", "Turn raw pages into clean documents."),
    "tokenizer": ("puna.cli.stages:tokenizer", "Train a tokenizer on them."),
    "pack": ("puna.cli.stages:pack", "Turn documents and dialogs into tokens."),
    "pretrain": ("puna.cli.stages:pretrain", "Train the base model."),
    "extend": ("puna.cli.stages:extend", "Lengthen its context."),
    "sft": ("puna.cli.stages:sft", "Fine-tune it on dialogs."),
    "eval": ("puna.cli.stages:eval_", "Evaluate a run on what its training never saw."),
    "report": ("puna.cli.stages:report", "Write the report card of a run."),
    "conformance": (
        "puna.cli.conformance:conformance",
        "Does a server, a template or a parser speak Llama 3.1?",
    ),
    "doctor": ("puna.cli.doctor:doctor", "Show what this machine can run, and why not."),
}

HELP = "The whole Llama 3.1 system: raise models from raw pages, run released ones, convert them."

EPILOGUE = """\
Examples:
  puna raise                                raise a small assistant here
  puna chat runs/cria                       talk with it
  puna generate MODEL --prompt "Once upon"  continue a text
  puna COMMAND --help                       options of one command

MODEL is a run folder, a Hugging Face folder, a Meta folder, a .gguf file
or a llama2.c .bin file. Every command takes --debug (show the traceback
of an error) and --quiet (no progress, no notes).
"""


class UsageError(PunaError):
    """The command line names no command of puna."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    # Threads that wait by spinning starve each other as soon as anything else runs on the machine:
    # with one other busy process, training on two cores fell from 2,020 to 175 tokens a second.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Imports and vocabularies make a million objects that stay: looking for garbage among them took
    # 0.2 s of the 2.4 s to a first token.
    gc.set_threshold(50_000, 20, 20)
    words = list(sys.argv[1:] if arguments is None else arguments)
    is_debug, is_quiet = _take(words, "--debug"), _take(words, "--quiet")
    try:
        with show(not is_quiet):
            result = command_line(words)(words)
            sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except (CycloptsError, UsageError) as error:
        _say(str(error), is_debug=is_debug)
        _say("See `puna --help` or `puna COMMAND --help`.")
        return 2
    except BrokenPipeError:
        # The reader (`| head`) has left. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except OSError as error:  # many errors of puna are some too; those say all in their text
        where = f"{error.filename}: " if error.strerror and error.filename else ""
        _say(f"{where}{error.strerror or error}", is_debug=is_debug)
        return 1
    except PunaError as error:
        _say(str(error), is_debug=is_debug)
        return 1
    except KeyboardInterrupt:
        _say("interrupted.", is_debug=is_debug)
        return 130


def command_line(words: Sequence[str]) -> App:
    """Return the application with every command of the table; only the one called is imported."""
    verb = words[0] if words else "--help"
    if verb not in COMMANDS and not verb.startswith("-"):
        near = difflib.get_close_matches(verb, COMMANDS, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise UsageError(f"unknown command '{verb}'.{hint} Known: {', '.join(COMMANDS)}.")
    app = App(
        name="puna",
        help=HELP,
        help_epilogue=EPILOGUE,
        help_format="plaintext",
        version=f"puna {puna.__version__}",
        default_parameter=Parameter(negative_iterable=()),
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    for name, (target, line) in COMMANDS.items():
        if name == verb:
            module, function = target.split(":")
            command = getattr(importlib.import_module(module), function)
            app.command(command, name=name, help=description(command), help_epilogue="")
        else:
            app.command(target, name=name, help=line)
    return app


def description(command: Callable[..., object]) -> str:
    """Return what a command's docstring says before its arguments, one line a paragraph.

    The terminal wraps the lines; a paragraph with indented lines (examples) stays as it is.
    """
    text = inspect.cleandoc(command.__doc__ or "").partition("\nArgs:\n")[0].strip()
    paragraphs = text.split("\n\n")
    return "\n\n".join(p if "\n " in p else " ".join(p.split()) for p in paragraphs)


def _take(words: list[str], flag: str) -> bool:
    """Remove a flag that every command has; after `--` words are no flags."""
    end = words.index("--") if "--" in words else len(words)
    found = flag in words[:end]
    words[:end] = [word for word in words[:end] if word != flag]
    return found


def _say(text: str, *, is_debug: bool = False) -> None:
    """Print one line on stderr, after the traceback where it is asked for."""
    if is_debug:
        traceback.print_exc()
    print(f"puna: {' '.join(text.split())}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
