"""Where calls stand and how they are written: each known mistake of other parsers has its test."""

import json
from typing import Any

import pytest
from hypothesis import given

from puna.chat.literals import write_json
from puna.chat.messages import Message, ToolCall
from tests.chat.answers import EVERY_TOOL, META, PICK
from tests.chat.dialogs import BYTES, assistant, call, encode_split, texts, values

EMPTY = '{"name": "pick_file", "parameters": {}}'


def _parse(text: str, tools: list[Any] | None = EVERY_TOOL) -> Message:
    return META.parse(encode_split(BYTES, text), tools)


def _calls(text: str, tools: list[Any] | None = EVERY_TOOL) -> list[tuple[str, Any]]:
    return [(found.name, found.arguments) for found in _parse(text, tools).tool_calls]


@pytest.mark.parametrize(
    "frame",
    [
        '{"name": "pick_file", "parameters": %s}',
        '<|python_tag|>{"type": "function", "name": "pick_file", "parameters": %s}<|eom_id|>',
        "<function=pick_file>%s</function>",
        '[{"name": "pick_file", "parameters": %s}]',
    ],
)
@given(values)
def test_nested_arguments_come_back_from_every_form(frame: str, value: Any) -> None:
    """T1: depth, arrays, braces inside strings."""
    given_ = {"deep": {"list": [[value, "}"], {"{": value}]}}
    before, after = (encode_split(BYTES, part) for part in frame.split("%s"))
    message = META.parse([*before, *BYTES.encode(write_json(given_)), *after], EVERY_TOOL)
    assert message.tool_calls == (ToolCall(name="pick_file", arguments=given_),)


@pytest.mark.parametrize(
    "frame", ["<|python_tag|>pick_file(deep=%s)<|eom_id|>", EMPTY[:-2] + '"deep": %s}}']
)
def test_arguments_may_be_ten_thousand_levels_deep(frame: str) -> None:
    """T1: without recursion, in reading and in writing."""
    deep = '{"a": [' * 5000 + "1" + "]}" * 5000
    (found,) = _parse(frame % deep).tool_calls
    assert write_json(found.arguments) == f'{{"deep": {deep}}}'
    broken = frame % deep[:-1]
    assert _parse(broken, [PICK]).content == broken.removeprefix("<|python_tag|>").removesuffix(
        "<|eom_id|>"
    )


@pytest.mark.parametrize("text", ["it's", "'", 'say "it\'s"', "don't 'x'"])
def test_apostrophes_are_no_quotes(text: str) -> None:
    """T2: in JSON, and in the quotes of Python."""
    assert _calls(json.dumps({"name": "pick_file", "parameters": {"q": text}})) == [
        ("pick_file", {"q": text})
    ]
    assert _calls(f"[pick_file(q={text!r})]") == [("pick_file", {"q": text})]


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (f"I look.\n{EMPTY}", "I look.\n"),
        (f"Here is the call:\n\n{EMPTY}\n\nDone.", "Here is the call:\n\nDone."),
        (f"{EMPTY}\nDone.", "Done."),
        (f'{{"type": "function", "function": {EMPTY}}} Done.', "Done."),
        ("I look. <function=pick_file>{}</function> Done.", "I look. Done."),
        ("I look.\n[pick_file()]\nDone.", "I look.\nDone."),
        (f"I look. <|python_tag|>{EMPTY} Done.", "I look. Done."),
        ("I look. <|python_tag|>pick_file() Done.", "I look. Done."),
        (f"[1] says so.\n{EMPTY}", "[1] says so.\n"),
        (f"```\nx\n```\n{EMPTY}", "```\nx\n```\n"),
    ],
)
def test_prose_may_stand_before_and_after_a_call(text: str, content: str) -> None:
    """T3."""
    expected = assistant(call("pick_file"), content=content, finish_reason="tool_calls")
    assert _parse(f"{text}<|eot_id|>") == expected


def test_a_python_tag_is_read_by_its_id_and_never_shown() -> None:
    """T4."""
    for text in (f"<|python_tag|>{EMPTY}", "<|python_tag|>x", "a <|python_tag|>b<|python_tag|>"):
        assert "python_tag" not in _parse(text, [PICK]).content
    named = BYTES.encode('<|python_tag|>brave_search.call(query="x")<|eom_id|>')
    assert META.parse(named).tool_calls == ()


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Alice"}',
        '{"name": "pick_file", "path": "x"}',
        '{"name": "Alice", "parameters": {}}',
        f'{{"answer": {EMPTY}}}',
        f'{{"tools": [\n{EMPTY}\n]}}',
        f'{{"answer": 1}}\n{EMPTY}',
        f"[1, {EMPTY}]",
        f"Sure: {EMPTY}",
        f"Write `{EMPTY}`",
        f"```json\n{EMPTY}\n```",
        "`<function=pick_file>{}</function>`",
        "[pick_file(a=1)](x) and [b](y)",
    ],
)
def test_json_and_quoted_calls_are_ordinary_answers(text: str) -> None:
    """T5."""
    assert _parse(f"{text}<|eot_id|>") == assistant(content=text, finish_reason="stop")


@pytest.mark.parametrize("tag", ["", "<|python_tag|>"])
@pytest.mark.parametrize(
    "text",
    [
        'foo.call(payload={"name": "pick_file", "parameters": {}}',
        'foo.call(payload=\n{"name": "pick_file", "parameters": {}}',
        'brave_search.call(payload={"name": "pick_file", "parameters": {}}',
        f'{{"name": "pick_file", "parameters": {{"a": {EMPTY}',
        f'{{"name": "pick_file", "parameters": {{"a": oops\n{EMPTY}\n}}}}',
        f'{{"name": "other", "parameters": {{"a":\n{EMPTY}}}}}',
        f'<function=other>{{"a": "\n<function=pick_file>{{}}</function>\n{EMPTY}"}}',
        f"[pick_file(a=[\n{EMPTY}\n], b)]",
        f"[pick_file(a=1),\n{EMPTY[:-1]}",
    ],
)
def test_a_broken_call_never_gives_way_to_one_inside_it(tag: str, text: str) -> None:
    """T6."""
    assert _parse(tag + text, [PICK, "brave_search"]) == assistant(
        content=text, finish_reason="length"
    )


@pytest.mark.parametrize(
    "text",
    ["pick_file(path='a/b')", "pick_file.call(path='a/b')", "[pick_file(path='a/b')]"],
)
@pytest.mark.parametrize("end", ["<|eom_id|>", "<|eot_id|>", ""])
def test_a_declared_tool_after_the_tag_is_called_and_is_no_code(text: str, end: str) -> None:
    """T7, T11: in every spelling, whatever ends the message."""
    assert _calls(f"<|python_tag|>{text}{end}") == [("pick_file", {"path": "a/b"})]


def test_a_name_need_not_be_an_identifier() -> None:
    for text in (
        '{"name": "files.read-text", "parameters": {"n": 1}}',
        "<function=files.read-text>{'n': 1}</function>",
        "[files.read-text(n=1)]",
        "<|python_tag|>files.read-text(n=1)",
    ):
        assert _calls(text) == [("files.read-text", {"n": 1})]


@pytest.mark.parametrize("between", ["; ", ";", "\n", ", ", ",\n", "", "<|python_tag|>"])
def test_every_one_of_several_calls_is_kept(between: str) -> None:
    """T8: whatever stands between them."""
    two = between.join(EMPTY.replace("{}", f'{{"n": {n}}}') for n in (1, 2))
    tagged = between.join(f"<function=pick_file>{{'n': {n}}}</function>" for n in (1, 2))
    for text in (two, tagged, f"<|python_tag|>{two}", f"<|python_tag|>{tagged}"):
        assert _calls(text) == [("pick_file", {"n": 1}), ("pick_file", {"n": 2})]
    if between:
        methods = between.join(f"pick_file(n={n})" for n in (1, 2))
        assert len(_calls(f"<|python_tag|>{methods}")) == 2


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "[pick_file]",
        "[pick_file('x')]",
        "[pick_file(a=1), other()]",
        "[pick_file(a=1), 2]",
        "[[pick_file(a=1)]]",
        "[pick_file(a=1, a=2)]",
        "[pick_file(a=open('x'))]",
        "[pick_file(a=1) pick_file(a=2)]",
        "[pick_file(a=1)] and more",
        "[pick_file(a=1)][0]",
        "[pick_file(a=1)",
        "[pick_file(1a=1)]",
        "(pick_file(a=1),)",
        "pick_file(a=1)",
    ],
)
def test_a_list_holds_calls_of_declared_tools_with_keywords_and_values_only(text: str) -> None:
    assert _parse(f"{text}<|eot_id|>") == assistant(content=text, finish_reason="stop")


@given(texts)
def test_quotes_in_a_query_come_back(query: str) -> None:
    """T10: quotes, backslashes, line breaks, as the renderer writes them."""
    message = assistant(call("brave_search", query=f'He said "hi" \\ {query}\n'))
    prompt = META.render([message], reply=False)
    said = [i for i, flag in zip(prompt.ids, prompt.loss_mask, strict=True) if flag]
    assert META.parse(said).tool_calls == message.tool_calls


def test_a_schema_in_the_request_does_not_hide_the_tools() -> None:
    """T12: with the same tools, an answer is a JSON value or a call, as the model chose."""
    assert _parse('{"city": "Paris"}<|eot_id|>').content == '{"city": "Paris"}'
    assert _calls(EMPTY) == [("pick_file", {})]


@pytest.mark.parametrize(
    "text", ['Say brave_search.call(query="x")', 'brave_search.call(query="x")']
)
def test_a_method_call_without_the_tag_is_prose(text: str) -> None:
    """T13."""
    assert _parse(f"{text}<|eot_id|>") == assistant(content=text, finish_reason="stop")


def test_what_others_say_after_the_answer_is_not_read() -> None:
    """T13: neither after a terminator nor after the header of another turn."""
    for end in ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|start_header_id|>"):
        message = _parse(f"Done.{end}ipython<|end_header_id|>\n\n{EMPTY}")
        assert (message.content, message.tool_calls) == ("Done.", ())


CODE = "import subprocess\nsubprocess.call(['ls'])\n"


def test_code_is_content_where_no_interpreter_is_declared() -> None:
    """The user reads what the model wrote, without the tag, and nothing runs."""
    assert _parse(f"<|python_tag|>{CODE}<|eot_id|>", [PICK]) == assistant(
        content=CODE, finish_reason="stop"
    )


@pytest.mark.parametrize(
    "code", ['{"a": 1}["a"]', "[x for x in y]", "[1]", "pick_file(1 + 1)", "  x = 1\n", "<b"]
)
def test_code_may_begin_like_a_call(code: str) -> None:
    assert _calls(f"<|python_tag|>{code}<|eom_id|>") == [("code_interpreter", {"code": code})]


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "code_interpreter", "parameters": {"code": "1"}}',
        '<|python_tag|>code_interpreter.call(code="1")<|eom_id|>',
        '<|python_tag|>{"name": "code_interpreter", "parameters": {"code": "1"}}<|eom_id|>',
    ],
)
def test_the_interpreter_may_be_called_like_a_function(text: str) -> None:
    assert _calls(text) == [("code_interpreter", {"code": "1"})]
    assert _calls(text.replace('"1"', "1")) != [("code_interpreter", {"code": 1})]


def test_a_function_call_of_a_built_in_asks_its_query() -> None:
    """Spec 5.6: the first value, whatever the model called it."""
    for arguments in ({"q": "x"}, {"query": "x"}, {"count": 3, "query": "x"}, {"a b": "x"}):
        text = write_json({"name": "brave_search", "parameters": arguments})
        assert _calls(text) == [("brave_search", {"query": "x"})]


@given(values)
def test_what_was_parsed_can_be_rendered_and_parsed_again(value: Any) -> None:
    """The tool loop writes an answer into the next prompt: no answer may stop it there."""
    for text in (
        '<|python_tag|>print(1)<|python_tag|>brave_search.call(query="x")<|eom_id|>',
        f'{{"name": "brave_search", "parameters": {{"a b": {write_json(value)}}}}}',
        f"Both:\n[pick_file(a={value!r}), calculator(query='1')]",
        '[{"name": "code_interpreter", "parameters": {"code": "1"}}, ' + EMPTY + "]",
    ):
        message = _parse(text)
        prompt = META.render([message], tools=None, reply=False)
        said = [i for i, flag in zip(prompt.ids, prompt.loss_mask, strict=True) if flag]
        again = META.parse(said, EVERY_TOOL)
        assert (again.content, again.tool_calls) == (message.content, message.tool_calls)


def test_every_call_has_an_id_of_its_own() -> None:
    found = _parse(f"{EMPTY}{EMPTY}").tool_calls
    assert found[0] == found[1] == ToolCall(name="pick_file", arguments={})
    assert found[0].id != found[1].id
