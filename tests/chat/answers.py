"""Answers to parse, from a seed: real calls in every form, broken in every way, and what must hold.

The hypothesis tests draw a few of them, `tests/chat/fuzz.py` a million.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any

from puna.chat.events import AnswerEvent, ArgumentsDelta, CallFinished, CallStarted, TextDelta
from puna.chat.format import ChatFormat
from puna.chat.literals import write_json
from puna.chat.messages import Message
from puna.chat.parse import AnswerParser
from tests.chat.dialogs import BYTES, SONGS

META = ChatFormat(BYTES, "meta")
PICK = {"type": "function", "function": {"name": "pick_file"}}
DOTTED = {"type": "function", "function": {"name": "files.read-text"}}
EVERY_TOOL: list[Any] = [
    SONGS, PICK, DOTTED, "brave_search", "wolfram_alpha", "calculator", "code_interpreter",
]  # fmt: skip
TOOLS: list[list[Any] | None] = [EVERY_TOOL, [SONGS, PICK, DOTTED], ["code_interpreter"], [], None]

# The names that may be called under each of TOOLS.
_FUNCTIONS = {"trending_songs", "pick_file", "files.read-text"}
_BUILTINS = {"brave_search", "wolfram_alpha", "calculator", "code_interpreter"}
NAMES = [_FUNCTIONS | _BUILTINS, _FUNCTIONS, {"code_interpreter"}, set[str](), _BUILTINS]

_TEXTS = (
    "", "Paris", "it's", 'He said "hi" \\\n', "}{][)(", '"); x.call(query="', "é🙂", "a;b",
    "<|python_tag|>", "<function=pick_file>{}</function>", '{"name": "pick_file"}', "```",
    "\\u00e9",
)  # fmt: skip
_PROSE = (
    "I look it up.", "Sure: ", "\n", " ", "\n\n", "```\n", "[1] says so.", "1 < 2",
    "See [this](x).", "print(1)\n", "{x}", "\ufffd", "`",
)  # fmt: skip
_SIGNS = "{}[]()<>\"'\\,;:=.`\n u0-e"
_FRAGMENTS = (
    "<function=", "</function>", ".call(", "query=", '{"name": "', '"parameters": ', "pick_file(",
    "true", "None", "1e999", "9" * 210, "\\ud800", "<|python_tag|>", "<|eom_id|>", "<|eot_id|>",
    "<|start_header_id|>", "<|end_header_id|>", "<|reserved_special_token_3|>", "[" * 40,
    '{"a":' * 20,
)  # fmt: skip


def value(random: Random, depth: int = 0) -> Any:
    """Return a JSON value."""
    kind = random.randrange(8 if depth < 4 else 5)
    if kind < 2:
        return random.choice(_TEXTS)
    if kind < 5:
        return random.choice((0, -1, 2.5, 1e-9, True, False, None, 10**20))
    if kind == 5:
        return [value(random, depth + 1) for _ in range(random.randrange(3))]
    return {random.choice(_TEXTS): value(random, depth + 1) for _ in range(random.randrange(3))}


def call_text(random: Random) -> str:
    """Return one call, or several, in one of the forms, of tools that may be undeclared."""
    name = random.choice((*sorted(NAMES[0]), "other"))
    arguments = {random.choice(("query", "n", "code")): value(random) for _ in range(2)}
    body = random.choice((write_json, repr))(arguments)
    keywords = ", ".join(f"{key}={inner!r}" for key, inner in arguments.items())
    match random.randrange(7):
        case 0:
            return f"<function={name}>{body}</function>"
        case 1:
            return f"[{name}({keywords})]"
        case 2:
            return f'{name}.call(query="{random.choice(_TEXTS)}")'
        case 3:
            return f"{name}({keywords})"
        case 4:
            key = random.choice(("parameters", "arguments"))
            return json.dumps({"type": "function", "name": name, key: arguments}, indent=1)
        case 5:
            function = {"name": name, "arguments": write_json(arguments)}
            return write_json({"type": "function", "function": function})
        case _:
            return f'{{"name": "{name}", "parameters": {body}}}'


def mutated(text: str, random: Random) -> str:
    """Return the text with one thing about it changed."""
    start = random.randrange(len(text) + 1)
    end = min(len(text), start + random.choice((0, 1, 1, 2, 5, 20)))
    match random.randrange(7):
        case 0:
            return text[:start] + text[end:]
        case 1:
            return text[:start] + random.choice(_SIGNS) + text[end:]
        case 2:
            return text[:start] + random.choice(_FRAGMENTS) + text[start:]
        case 3:
            return text[:end] + text[start:]
        case 4:
            return text[:start]
        case 5:
            return text[:start] + call_text(random) + text[start:]
        case _:
            return text.replace(random.choice(_SIGNS), random.choice(_SIGNS))


def answer(random: Random) -> list[int]:
    """Return the ids of one answer: calls and prose, broken or not, or ids without any sense."""
    if random.randrange(20) == 0:
        return [random.randrange(-3, 515) for _ in range(random.randrange(60))]
    parts = ["<|python_tag|>"] if random.randrange(2) else []
    for _ in range(random.randrange(1, 4)):
        parts.append(call_text(random) if random.randrange(3) else random.choice(_PROSE))
        parts.append(random.choice(("", "", "; ", "\n", ", ", "<|python_tag|>")))
    text = "".join([*parts, random.choice(("", "<|eom_id|>", "<|eot_id|>"))])
    for _ in range(random.choice((0, 0, 1, 1, 2, 4))):
        text = mutated(text, random)
    return encoded(text)


_CONTROLS = {
    name: BYTES.specials[name]
    for name in ("<|python_tag|>", "<|eom_id|>", "<|eot_id|>", "<|start_header_id|>",
                 "<|end_header_id|>", "<|reserved_special_token_3|>")
}  # fmt: skip


def encoded(text: str) -> list[int]:
    """Return the ids of a text in which the names of control tokens stand for the tokens."""
    ids: list[int] = []
    first, *parts = text.split("<|")
    ids += first.encode("utf-8", "replace")
    for part in parts:
        name = next((n for n in _CONTROLS if f"<|{part}".startswith(n)), "")
        ids += [_CONTROLS[name]] if name else []
        ids += f"<|{part}"[len(name) :].encode("utf-8", "replace")
    return ids


def pieces(ids: Sequence[int], random: Random) -> Iterator[Sequence[int]]:
    """Cut an answer into pieces of random length."""
    longest = random.choice((1, 2, 3, 10, 100))
    start = 0
    while start < len(ids):
        end = start + random.randint(0 if longest > 1 else 1, longest)
        yield ids[start:end]
        start = end


def told(events: Iterable[AnswerEvent]) -> list[tuple[Any, ...]]:
    """Return what events say, neighbouring pieces joined and the ids of calls left out."""
    said: list[tuple[Any, ...]] = []
    open_ids: list[str] = []
    for event in events:
        match event:
            case TextDelta(text=text):
                assert text
                if said and said[-1][0] == "text":
                    text = said.pop()[1] + text
                said.append(("text", text))
            case CallStarted(index=index, id=call_id, name=name):
                open_ids.append(call_id)
                said.append(("call", index, name, ""))
            case ArgumentsDelta(index=index, text=text):
                kind, at, name, before = said.pop()
                assert (kind, at) == ("call", index)
                said.append(("call", index, name, before + text))
            case CallFinished(index=index, call=call):
                assert open_ids.pop() == call.id
                assert said[-1] == ("call", index, call.name, write_json(dict(call.arguments)))
    assert not open_ids
    return said


def read(
    parser: AnswerParser, parts: Iterable[Sequence[int]]
) -> tuple[list[tuple[Any, ...]], Message]:
    """Parse an answer given in parts; return what the events told, and the message."""
    events = [event for part in parts for event in parser.read(part)]
    events += parser.close()
    return told(events), parser.finish()


def require_sound(ids: Sequence[int], which: int, cut: Iterable[Sequence[int]]) -> int:
    """Stop where an answer is not parsed as every answer must be; return its number of calls."""
    tools = TOOLS[which]
    events, message = read(META.parser(tools), [ids])
    for call in message.tool_calls:
        assert call.name in NAMES[which], call.name
        write_json(dict(call.arguments)).encode()
    assert "".join(event[1] for event in events if event[0] == "text") == message.content
    assert [event[1:3] for event in events if event[0] == "call"] == [
        (index, call.name) for index, call in enumerate(message.tool_calls)
    ]
    in_pieces, same = read(META.parser(tools), cut)
    assert in_pieces == events
    assert same == message
    return len(message.tool_calls)
