"""What the modules of the standard library are for, in the first sentence of their docstrings.

Read from the sources without running them (built-in modules have none and are imported), so the
list follows the Python that runs. The dialogs of `puna.posttrain.dialogs` teach these sentences.
"""

import ast
import importlib
import importlib.util
import re
import sys
import tokenize
from collections.abc import Iterator

from puna.data.heldout import mentions_held_out

QUESTIONS = (
    "What is the module {name} for?",
    "What does the module {name} do?",
    "Tell me about the module {name}.",
)

LONGEST = 84  # characters of a sentence: longer ones are not worth a small model's tokens
SHORTEST = 12

_FIRST_SENTENCE = re.compile(r"(.+?[.!?])(?:\s|$)", re.DOTALL)


def module_sentences() -> Iterator[tuple[str, str]]:
    """Yield name and sentence of every public module that says plainly what it is for."""
    for name in sorted(sys.stdlib_module_names):
        if name.startswith("_"):
            continue
        sentence = first_sentence(_docstring(name), name)
        if sentence is not None:
            yield name, sentence


def first_sentence(docstring: str, name: str) -> str | None:
    """Return the first sentence, capitalised and with its full stop, or None if it is unfit."""
    paragraph = " ".join(docstring.strip().split("\n\n")[0].split())
    # "csv.py - read/write files" and "codecs -- registry": the name is in the question already.
    title = rf"^(module\s+)?{re.escape(name)}(\.py)?\s*(-+|:)\s+"
    paragraph = re.sub(title, "", paragraph, flags=re.I).replace("a.k.a. ", "also ")
    found = _FIRST_SENTENCE.match(paragraph + ".") if paragraph else None
    if found is None:
        return None
    sentence = found[1].rstrip(".") + "."
    sentence = sentence[0].upper() + sentence[1:]
    plain = re.fullmatch(r"[A-Za-z][\w ,.'()/&-]+\.", sentence, flags=re.ASCII)
    if not plain or not SHORTEST <= len(sentence) <= LONGEST or sentence.count(" ") < 2:
        return None
    return None if mentions_held_out(sentence) else sentence


def _docstring(name: str) -> str:
    """Return a module's docstring from its source; empty where there is none to read."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return ""
    if spec.origin == "built-in":  # compiled into Python: it has no source, and no side effects
        return importlib.import_module(name).__doc__ or ""
    if not spec.origin.endswith(".py"):
        return ""
    # The first token that is no comment; parsing the whole file would take fifty times as long.
    with tokenize.open(spec.origin) as source:
        for token in tokenize.generate_tokens(source.readline):
            if token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE):
                is_text = token.type == tokenize.STRING
                return str(ast.literal_eval(token.string)) if is_text else ""
    return ""
