import json
import string
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from puna.chat.format import ChatFormat
from puna.chat.messages import Message, ToolCall
from tests.chat.dialogs import (
    BYTES,
    INJECTION,
    SONGS,
    assistant,
    call,
    encode_split,
    texts,
    trained_text,
    values,
)

META = ChatFormat(BYTES, "meta")
PICK = {"type": "function", "function": {"name": "pick_file"}}
TOOLS = [SONGS, PICK, "brave_search", "wolfram_alpha", "calculator", "code_interpreter"]


def _parse(text: str, tools: list[Any] | None = TOOLS) -> Message:
    """Parse an answer given as text with the names of its control tokens."""
    return META.parse(encode_split(BYTES, text), tools)


def _calls(text: str, tools: list[Any] | None = TOOLS) -> list[tuple[str, Any]]:
    return [(found.name, found.arguments) for found in _parse(text, tools).tool_calls]


@pytest.mark.parametrize(
    ("text", "content", "reason"),
    [
        ("Hello.<|eot_id|>", "Hello.", "stop"),
        ("Hello.<|end_of_text|>", "Hello.", "stop"),
        ("Hello.<|eom_id|>", "Hello.", "tool_calls"),
        ("Hello.", "Hello.", "length"),
        ("", "", "length"),
        (" \n Hello \n<|eot_id|>", " \n Hello \n", "stop"),
        ("Hello.<|eot_id|> and more", "Hello.", "stop"),
        ("<|start_header_id|>assistant<|end_header_id|>\n\n\nHi<|eot_id|>", "\nHi", "stop"),
        ("Hi<|start_header_id|>user<|end_header_id|>\n\nNow", "Hi", "stop"),
        ("a<|reserved_special_token_9|>b<|eot_id|>", "ab", "stop"),
    ],
)
def test_why_an_answer_ended(text: str, content: str, reason: str) -> None:
    expected = Message(role="assistant", content=content, finish_reason=reason)
    assert _parse(text) == expected


@pytest.mark.parametrize("terminator", ["<|eom_id|>", "<|eot_id|>", ""])
def test_a_built_in_call_is_read(terminator: str) -> None:
    message = _parse(f'<|python_tag|>brave_search.call(query="gold price"){terminator}', None)
    assert message == assistant(
        call("brave_search", query="gold price"), finish_reason="tool_calls"
    )


@given(st.sampled_from(["brave_search", "calculator"]), st.lists(texts, min_size=1, max_size=3))
@example("brave_search", ['He said "hi" \\\n', '"); calculator.call(query="'])
def test_built_in_calls_survive_the_round_trip(name: str, queries: list[str]) -> None:
    message = assistant(*(call(name, query=q) for q in queries), finish_reason="tool_calls")
    _assert_round_trip(message, tools=None)


@given(texts, st.lists(st.dictionaries(texts, values, max_size=3), min_size=1, max_size=3))
def test_function_calls_survive_the_round_trip(content: str, given_: list[dict[str, Any]]) -> None:
    calls = tuple(ToolCall(name="pick_file", arguments=arguments) for arguments in given_)
    _assert_round_trip(assistant(*calls, content=content, finish_reason="tool_calls"), tools=[PICK])


@given(texts.filter(str.strip))
def test_code_survives_the_round_trip(code: str) -> None:
    message = assistant(call("code_interpreter", code=code), finish_reason="tool_calls")
    if not code.lstrip().startswith('{"name"'):  # that would be a call of something undeclared
        _assert_round_trip(message, tools=None)


@given(texts)
def test_plain_answers_survive_the_round_trip(content: str) -> None:
    _assert_round_trip(assistant(content=content, finish_reason="stop"), tools=TOOLS)


def _assert_round_trip(message: Message, tools: list[Any] | None) -> None:
    for system in ("", "Environment: ipython"):
        dialog = [Message(role="system", content=system), message]
        prompt = META.render(dialog, reply=False)
        said = [i for i, flag in zip(prompt.ids, prompt.loss_mask, strict=True) if flag]
        assert META.parse(said, tools) == message


@pytest.mark.parametrize("tag", ["", "<|python_tag|>"])
@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('{"name": "pick_file", "parameters": {"q": "it\'s"}}', {"q": "it's"}),
        ('{"type": "function", "name": "pick_file", "parameters": {}}', {}),
        ('{"name": "pick_file", "arguments": {"n": 1}}', {"n": 1}),
        ('{"name": "pick_file", "arguments": "{\\"n\\": 1}"}', {"n": 1}),
        ('{"type": "function", "function": {"name": "pick_file", "parameters": null}}', {}),
        ("{'name': 'pick_file', 'parameters': {'a': True, 'b': None}}", {"a": True, "b": None}),
        (' \n{"name":"pick_file","parameters":{"s":"a}{]["}} ', {"s": "a}{]["}),
        ('<function=pick_file>{"n": 10}</function>', {"n": 10}),
        ('<function=pick_file>{"n": {"m": "}"}}', {"n": {"m": "}"}}),
        ("[pick_file(city='San Francisco', n=[1, 2.5])]", {"city": "San Francisco", "n": [1, 2.5]}),
        ('[{"name": "pick_file", "parameters": {"n": 1}}]', {"n": 1}),
    ],
)
def test_a_call_is_read_in_every_spelling(tag: str, text: str, arguments: Any) -> None:
    message = _parse(f"{tag}{text}<|eot_id|>")
    assert message.tool_calls == (ToolCall(name="pick_file", arguments=arguments),)
    assert (message.content, message.finish_reason) == ("", "tool_calls")


def test_arguments_nest_as_deep_as_anyone_writes_them() -> None:
    deep: Any = {"text": 'braces }{ and "quotes"'}
    for _ in range(20):
        deep = {"inner": [deep, "}"], "other": {"a": 1}}
    text = json.dumps({"name": "pick_file", "parameters": deep})
    assert _calls(text) == [("pick_file", deep)]


def test_a_declared_tool_called_like_a_function_is_no_code() -> None:
    assert _calls('<|python_tag|>pick_file(path="a/b")<|eom_id|>') == [
        ("pick_file", {"path": "a/b"})
    ]


@pytest.mark.parametrize(
    "text",
    [
        '<|python_tag|>calculator.call(query="1"); calculator.call(query="2")<|eom_id|>',
        '<|python_tag|>calculator.call(query="1")\ncalculator.call(query="2")<|eom_id|>',
        '<|python_tag|>calculator.call(query="1")<|python_tag|>calculator.call(query="2")<|eom_id|>',
        '{"name": "calculator", "parameters": {"query": "1"}}; '
        '{"name": "calculator", "parameters": {"query": "2"}}',
        '[calculator(query="1"), calculator(query="2")]<|eot_id|>',
    ],
)
def test_every_call_of_an_answer_is_read(text: str) -> None:
    assert _calls(text) == [("calculator", {"query": "1"}), ("calculator", {"query": "2"})]
    ids = [found.id for found in _parse(text).tool_calls]
    assert len(set(ids)) == 2


def test_text_round_a_call_is_content() -> None:
    before = _parse('I add. <|python_tag|>calculator.call(query="1")<|eom_id|>')
    assert before == assistant(
        call("calculator", query="1"), content="I add. ", finish_reason="tool_calls"
    )
    after = _parse('{"name": "pick_file", "parameters": {}} This picks a file.<|eot_id|>')
    assert after == assistant(
        call("pick_file"), content="This picks a file.", finish_reason="tool_calls"
    )


def test_bare_quotes_in_a_query_are_read_as_the_published_template_writes_them() -> None:
    assert _calls('<|python_tag|>brave_search.call(query="who said "I do""  )<|eom_id|>') == [
        ("brave_search", {"query": 'who said "I do"'})
    ]


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Alice"}',
        '{"name": "Alice", "parameters": {}}',
        '{"name": "pick_file"}',
        '{"name": "pick_file", "parameters": [1]}',
        '{"name": "pick_file", "parameters": {"a": 1}',
        '{"type": "object", "name": "pick_file", "parameters": {}}',
        'Sure: {"name": "pick_file", "parameters": {}}',
        'brave_search.call(query="x")',
        "pick_file(path='x')",
        "<function=other>{}</function>",
        "<function=pick_file>{",
        "[]",
        "[1, 2]",
        "[pick_file]",
        "[pick_file('x')]",
        "[pick_file(a=1), other()]",
        "[[pick_file(a=1)]]",
        "[pick_file(a=1)] and more",
        "[pick_file(a=b)]",
        "(pick_file(a=1),)",
    ],
)
def test_what_is_no_call_stays_content(text: str) -> None:
    assert _parse(f"{text}<|eot_id|>") == assistant(content=text, finish_reason="stop")


@pytest.mark.parametrize(
    "text",
    [
        'pick_file.call(payload={"name": "brave_search", "parameters": {"query": "x"}',
        'brave_search.call(query="x',
        '{"name": "pick_file", "parameters": {"a": {"name": "brave_search", "parameters": {}}',
        "import os\nos.remove(",
    ],
)
def test_a_call_that_was_cut_off_is_no_call(text: str) -> None:
    assert _parse(f"<|python_tag|>{text}") == assistant(content=text, finish_reason="length")


def test_only_declared_tools_are_called() -> None:
    for text in (
        '<|python_tag|>brave_search.call(query="x")<|eom_id|>',
        "<|python_tag|>print(1)<|eom_id|>",
        '<|python_tag|>{"name": "other", "parameters": {}}<|eom_id|>',
    ):
        message = _parse(text, [PICK])
        assert message.tool_calls == ()
        assert f"<|python_tag|>{message.content}<|eom_id|>" == text


def test_code_after_the_tag_is_for_the_interpreter() -> None:
    code = "import subprocess\nsubprocess.call(['ls'])"
    assert _calls(f"<|python_tag|>{code}<|eom_id|>", None) == [("code_interpreter", {"code": code})]


def test_a_tag_that_is_only_text_is_no_tag() -> None:
    ids = BYTES.encode('<|python_tag|>brave_search.call(query="x")')
    assert META.parse(ids).tool_calls == ()


_FRAGMENTS = [
    *BYTES.specials,
    *('{"name": "pick_file", "parameters": ', "brave_search.call(", "query=", '"', "'", "\\"),
    *("{", "}", "[", "]", "(", ")", ",", ";", ":", "=", "1e999", "9" * 5000, "NaN", "\\ud800"),
    *("<function=pick_file>", "</function>", "pick_file(", "true", "-", "\x00", "é", " ", "\n"),
]
_answers = st.lists(
    st.sampled_from(_FRAGMENTS) | texts | st.text(string.printable, max_size=5), max_size=25
).map(lambda parts: encode_split(BYTES, "".join(parts)))


@settings(max_examples=300)
@given(_answers | st.lists(st.integers(-5, 600)), st.sampled_from([None, [], TOOLS, [PICK]]))
def test_any_ids_are_parsed_and_call_declared_tools_only(ids: list[int], tools: Any) -> None:
    message = META.parse(ids, tools)
    allowed = {"pick_file", "trending_songs", "brave_search", "wolfram_alpha", "calculator"}
    allowed = {"pick_file"} if tools == [PICK] else {*allowed, "code_interpreter"}
    assert {found.name for found in message.tool_calls} <= (set() if tools == [] else allowed)
    for found in message.tool_calls:
        json.dumps(found.arguments, allow_nan=False, ensure_ascii=False).encode()


@given(_answers)
def test_what_is_streamed_is_the_beginning_of_the_content(ids: list[int]) -> None:
    parser = META.parser(TOOLS)
    streamed = "".join(parser.feed(token) for token in ids)
    assert parser.finish().content.startswith(streamed)


def test_prose_is_streamed_at_once_and_characters_whole() -> None:
    parser = META.parser(TOOLS)
    assert [parser.feed(token) for token in BYTES.encode("Hé!")] == ["H", "", "é", "!"]


@pytest.mark.parametrize(
    "text",
    ["[" * 20_000, '{"a":' * 10_000, "<|python_tag|>" + "[{" * 10_000, "<|python_tag|>" * 500],
)
def test_hostile_depth_is_only_text(text: str) -> None:
    assert _parse(text).tool_calls == ()


def test_an_answer_holding_an_injection_is_parsed_by_its_ids() -> None:
    prompt = META.render([assistant(content=INJECTION)], reply=False)
    assert trained_text(BYTES, prompt.ids, prompt.loss_mask) == INJECTION + "<|eot_id|>"
    said = [i for i, flag in zip(prompt.ids, prompt.loss_mask, strict=True) if flag]
    assert META.parse(said) == assistant(content=INJECTION, finish_reason="stop")
