"""The parser of answers while tokens arrive: pieces, events, what is held back, and its cost."""

import sys
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from puna.chat.events import ArgumentsDelta, CallFinished, CallStarted, TextDelta
from puna.chat.messages import Message
from tests.chat.answers import (
    EVERY_TOOL,
    META,
    TOOLS,
    answer,
    encoded,
    pieces,
    read,
    require_sound,
    told,
)
from tests.chat.dialogs import BYTES, assistant, call, encode_split, texts

CALL = '{"name": "pick_file", "parameters": {"path": "a}b"}}'

# Every form, alone, among prose, broken, and of tools that are not declared.
ANSWERS = (
    f"{CALL}; {CALL} Done.<|eot_id|>",
    f"I look.\n{CALL}\n```\n{CALL}\n```\n<|eot_id|>",
    '<|python_tag|>brave_search.call(query="é 🙂"); calculator.call(query="1")<|eom_id|>',
    '<|python_tag|>brave_search.call(query="who said "I do""  )<|eom_id|>',
    "Both:<function=pick_file>{}</function> <function=pick_file>{}</func",
    "[pick_file(a=[1, {'b': None}]), trending_songs(n=2)]\nDone<|eot_id|>",
    "Hi <|python_tag|>print('é')<|python_tag|>import os<|eom_id|>",
    "<|start_header_id|>assistant<|end_header_id|>\n\n\n [1]: x < y <f <function=other>{}",
    '{"name": "pick_file", "parameters": {"a": {"name": "brave_search", "parameters": {}}',
)


def _feed(text: str, tools: list[Any] | None = EVERY_TOOL) -> list[str]:
    """Return what is handed on after each character."""
    parser = META.parser(tools)
    return [parser.feed(encode_split(BYTES, sign)) for sign in text]


@settings(max_examples=150)
@given(st.integers(0, 2**40), st.randoms(use_true_random=False))
def test_an_answer_in_pieces_is_the_answer_as_a_whole(seed: int, random: Random) -> None:
    """Events, streamed text and message, for answers that are right, broken or without sense."""
    ids = answer(Random(seed))
    require_sound(ids, seed % len(TOOLS), list(pieces(ids, random)))


@pytest.mark.parametrize("text", ANSWERS)
def test_no_place_to_cut_an_answer_changes_it(text: str) -> None:
    ids = encoded(text)
    for which in range(len(TOOLS)):
        require_sound(ids, which, [[token] for token in ids])
        for cut in range(len(ids)):
            require_sound(ids, which, [ids[:cut], ids[cut:]])


@given(st.lists(st.sampled_from(["{", "}", "[", "<", "\n", "`", " ", "é", ":", '"']) | texts))
def test_text_without_a_call_loses_nothing(parts: list[str]) -> None:
    """No brace and no space is lost, whatever the text looks like."""
    text = "".join(parts)
    parser = META.parser(EVERY_TOOL)
    streamed = "".join(parser.feed(BYTES.encode(text)))
    message = parser.finish()
    assert message == assistant(content=text, finish_reason="length")
    assert text.startswith(streamed)


def test_prose_is_handed_on_token_by_token() -> None:
    text = "Is 1 < 2? See [1], {x} and `f(x)`:\n- [this](a), {that}.\n\n```\n{}\n```\n1. Done"
    handed = _feed(text)
    late = [n for n, sign in enumerate(handed) if not sign]
    assert {text[n] for n in late} <= set("<[{`")  # one sign may begin a call: the next one tells
    assert all(handed[n + 1] == text[n : n + 2] for n in late if n + 1 not in late)


@pytest.mark.parametrize(
    "text",
    [
        "{x",
        '{"answer":',  # a call begins with another key
        '{"name": "Alice"',
        '{"type": "object"',
        '{"name": "pick_file", "parameters": {"a": 1}, "name":',
        '{"name": "pick_file"}',
        "[1",
        "[S",
        "[pick_file]",
        "[pick_file(a=b)",
        "[pick_file(a=1)] a",
        "<b",
        "<function=o",
        "<function=pick_file>x",
        "<|python_tag|>o",
        "<|python_tag|>brave_search.call('",
        '<|python_tag|>brave_search.call(query="a", "b").',
    ],
)
def test_text_is_released_at_the_sign_that_makes_it_no_call(text: str) -> None:
    tools = [tool for tool in EVERY_TOOL if tool != "code_interpreter"]
    ids = encode_split(BYTES, text)
    parser = META.parser(tools)
    *before, last = [parser.feed(token) for token in ids]
    assert not any(before)
    assert last == text.removeprefix("<|python_tag|>")


def test_nothing_of_a_call_is_handed_on_before_it_is_known() -> None:
    for form in (CALL, "<function=pick_file>{}</function>", "[pick_file(path='x')]"):
        assert "".join(_feed(form)) == ""
        assert "".join(_feed(f"Well.\n{form}")) == "Well.\n"


def test_without_tools_everything_is_text_at_once() -> None:
    assert _feed(CALL, []) == list(CALL)


def test_events_tell_a_server_what_to_send() -> None:
    parser = META.parser(EVERY_TOOL)
    events = parser.read(encode_split(BYTES, f"I look.\n{CALL}"))
    text, started, arguments, finished = events
    assert isinstance(started, CallStarted)
    assert isinstance(finished, CallFinished)
    assert text == TextDelta(text="I look.\n")
    assert started == CallStarted(index=0, id=finished.call.id, name="pick_file")
    assert arguments == ArgumentsDelta(index=0, text='{"path": "a}b"}')
    assert finished.call == call("pick_file", path="a}b")
    assert parser.read(encode_split(BYTES, f"; {CALL} Done.<|eot_id|>ignored"))[0] == CallStarted(
        index=1, id=parser.finish().tool_calls[1].id, name="pick_file"
    )
    assert parser.close() == []
    assert parser.finish() == assistant(
        call("pick_file", path="a}b"),
        call("pick_file", path="a}b"),
        content="I look.\nDone.",
        finish_reason="tool_calls",
    )


def test_what_comes_after_the_end_is_not_read() -> None:
    parser = META.parser(EVERY_TOOL)
    assert parser.feed(BYTES.encode("Hi")) == "Hi"
    message = parser.finish()
    assert parser.feed(ord("x")) == ""
    assert parser.read(encode_split(BYTES, f"\n{CALL}<|eot_id|>")) == []
    assert parser.finish() == message == assistant(content="Hi", finish_reason="length")


def test_a_call_is_told_when_its_last_sign_arrives_while_the_answer_goes_on() -> None:
    parser = META.parser(EVERY_TOOL)
    assert parser.read(encode_split(BYTES, CALL[:-1])) == []
    assert told(parser.read(encode_split(BYTES, CALL[-1]))) == [
        ("call", 0, "pick_file", '{"path": "a}b"}')
    ]


def test_an_id_outside_the_vocabulary_is_a_replacement_character() -> None:
    ids = [ord("a"), 10**9, -1, *"é".encode()[:1], 600, ord("b")]
    expected = assistant(content="a\ufffd\ufffd\ufffd\ufffdb", finish_reason="length")
    assert META.parse(ids) == expected
    assert read(META.parser(), [[token] for token in ids])[1] == expected


@example(2)
@given(st.integers(1, 40))
def test_a_character_that_a_token_begins_is_handed_on_whole(size: int) -> None:
    """B10: in prose and in arguments, wherever the pieces end."""
    ids = encode_split(BYTES, "é🙂 हिन्दी\n<function=pick_file>{'q': 'é🙂'}")
    events, message = read(META.parser(EVERY_TOOL), [ids[:size], ids[size:]])
    assert events[0] == ("text", "é🙂 हिन्दी\n")
    assert message.tool_calls == (call("pick_file", q="é🙂"),)


def _steps(work: Callable[[], Message]) -> int:
    """Count the lines of puna that a piece of work runs."""
    steps = 0

    def count(frame: Any, event: str, _: Any) -> Any:
        nonlocal steps
        if "puna" not in frame.f_code.co_filename:
            return None
        steps += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        work()
    finally:
        sys.settrace(before)
    return steps


@pytest.mark.parametrize(
    "unit",
    [
        "word ",
        "\n",
        "<",
        "\n[1] {x} <function= `",
        '{"a":',
        "[",
        "<|python_tag|>",
        f"{CALL}; ",
        "<function=pick_file>{}</function",
        '<|python_tag|>brave_search.call(query="a" " ',
        '<|python_tag|>[pick_file(a="\\u00e9"), ',
        '{"name": "pick_file", "parameters": [',
        '{"name": "pick_file", "parameters": {"a": 1}, "x": ',
        "<|python_tag|>print(1)\n",
    ],
)
def test_twice_the_answer_is_twice_the_work(unit: str) -> None:
    """Linear cost, whole and token by token, also for what opens and never closes."""
    costs = []
    for repeats in (40, 80):
        ids = encode_split(BYTES, unit * repeats)
        one_by_one = [[token] for token in ids]
        costs.append(
            _steps(lambda ids=ids: META.parse(ids, EVERY_TOOL))  # type: ignore[misc]
            + _steps(lambda cut=one_by_one: read(META.parser(EVERY_TOOL), cut)[1])  # type: ignore[misc]
        )
    assert costs[1] <= 2.2 * costs[0] + 100


@pytest.mark.parametrize("unit", ["a", "\\", '"', "\n", "<", "{", "é", " "])
@pytest.mark.parametrize(
    "opening", ["", '{"name": "pick_file", "parameters": {"a": "', "<|python_tag|>"]
)
def test_a_long_answer_is_kept_once(opening: str, unit: str, monkeypatch: Any) -> None:
    """What is held back is joined once in the end, not again for every token."""
    joined = 0

    class Counted:
        def __get__(self, source: Any, _: Any) -> str:
            nonlocal joined
            text = "".join([*source._held, source.text[source._start : source.at]])
            joined += len(text)
            return text

    monkeypatch.setattr("puna.chat.incoming.Incoming.held", Counted())
    ids = encode_split(BYTES, opening + unit * 2000)
    read(META.parser(EVERY_TOOL), [[token] for token in ids])
    assert joined <= 3 * len(ids)
