"""Tools shown in every style of Meta's documents, and calls that come back through the parser."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.chat.format import ChatFormat
from puna.chat.messages import Message, ToolCall
from puna.errors import ConfigError, RequestError
from tests.chat.dialogs import BYTES, assistant, call, examples, texts, trained_text, values
from tests.chat.printed import SONGS, USER_INFO, WEATHER

SYSTEM = Message(role="system", content="You are a helpful assistant.\n")


def _chat(style: str, **options: Any) -> ChatFormat:
    return ChatFormat(BYTES, "meta", tool_style=style, **options)


def _example(document: str, words: str) -> str:
    (prompt,) = [p for p, _ in examples(document) if words in p]
    return prompt


def _text(chat: ChatFormat, dialog: list[Message], **options: Any) -> str:
    return BYTES.decode(chat.render(dialog, **options).ids)


def test_functions_in_a_question_are_indented_evenly_unless_meta_s_form_is_asked_for() -> None:
    """All else is as Meta prints it, and so are the functions, read as JSON."""
    question = (
        "Can you retrieve the details for the user with the ID 7890, who has black as their "
        "special request?"
    )
    chat = _chat("python_list", tools_in="user")
    text = _text(chat, [Message(role="user", content=question)], tools=[USER_INFO])
    expected = _example("llama3_2_text_prompt_format.md", "ID 7890")
    functions = re.compile(r"\[\n    \{.*?\n\]", re.S)
    assert functions.sub("", text) == functions.sub("", expected)
    ours, theirs = functions.findall(text), functions.findall(expected)
    assert [json.loads(part) for part in ours] == [json.loads(part) for part in theirs]
    assert list(json.loads(ours[0])[0]["parameters"]) == ["type", "required", "properties"]


def test_an_earlier_call_is_written_as_the_model_said_it_unless_meta_s_form_is_asked_for() -> None:
    """Meta prints it behind a python tag and in double quotes, while its examples of answers have
    neither. So without `meta_compat` a prompt goes on as the answer before it was generated."""
    dialog = [
        Message(role="user", content="What is the weather in SF?"),
        assistant(call("get_weather", city="San Francisco", metric="celsius")),
        Message(role="tool", content='"25 C"'),
    ]
    expected = _example("llama3_2_text_prompt_format.md", "weather in SF?")
    said = "[get_weather(city='San Francisco', metric='celsius')]"
    theirs = "<|python_tag|>" + said.replace("'", '"')
    assert theirs in expected
    assert _text(_chat("python_list"), dialog, tools=[WEATHER]) == expected.replace(theirs, said)


def test_meta_s_indentation_changes_nothing_but_white_space() -> None:
    """Whatever stands in the functions: no parameters, one, nested ones, and line separators."""
    nested = {"type": "object", "properties": {"a\u2028": {"enum": ["\n            }", "\x85"]}}}
    for properties in ({}, {"only": {}}, {"x": nested, "y": {}, "z": {"type": "string"}}):
        parameters = {"type": "object", "properties": properties}
        tools = [
            {"type": "function", "function": {"name": name, "parameters": parameters}}
            for name in ("f", "g")
        ]
        even, uneven = (
            _text(
                _chat("python_list", tools_in="user", meta_compat=meta_compat),
                [Message(role="user", content="q")],
                tools=tools,
            )
            for meta_compat in (False, True)
        )
        lines = [[line.lstrip(" ") for line in text.split("\n")] for text in (even, uneven)]
        assert lines[0] == lines[1]
        assert (even == uneven) == (len(properties) < 2)


@pytest.mark.parametrize(
    ("style", "tools", "answer"),
    [
        (
            "python_list",
            [WEATHER],
            "[get_weather(city='San Francisco', metric='celsius'), "
            "get_weather(city='Seattle', metric='celsius')]<|eot_id|>",
        ),
        ("python_list", [USER_INFO], "[get_user_info(user_id=7890, special='black')]<|eot_id|>"),
        ("function_tag", [SONGS], '<function=trending_songs>{"n": 10}</function><|eot_id|>'),
        ("json", [SONGS], '<|python_tag|>brave_search.call(query="gold")<|eom_id|>'),
        ("function_tag", [SONGS], '<|python_tag|>brave_search.call(query="gold")<|eom_id|>'),
        ("python_list", [SONGS], '<|python_tag|>brave_search.call(query="gold")<|eom_id|>'),
    ],
)
def test_an_answer_that_calls_is_written_back_byte_for_byte(
    style: str, tools: list[Any], answer: str
) -> None:
    chat = _chat(style)
    ids = chat.render([Message(role="user", content="q")]).ids
    said = BYTES.encode(answer.split("<|")[0])
    for name in ("<|python_tag|>", "<|eom_id|>", "<|eot_id|>"):
        if answer.startswith(name):
            said += [BYTES.specials[name], *BYTES.encode(answer.split("|>")[1].split("<|")[0])]
        if answer.endswith(name):
            said.append(BYTES.specials[name])
    message = chat.parse(said, [*tools, "brave_search"])
    assert message.tool_calls
    whole = chat.render([Message(role="user", content="q"), message], reply=False).ids
    assert whole == [*ids, *said]


@pytest.mark.parametrize("style", ["json", "function_tag", "python_list"])
def test_functions_can_stand_in_the_system_message(style: str) -> None:
    chat = _chat(style, tools_in="system")
    for dialog in (
        [SYSTEM, Message(role="user", content="q")],
        [Message(role="user", content="q")],
    ):
        text = _text(chat, dialog, tools=[SONGS])
        system, rest = text.split("<|eot_id|>", 1)
        assert system.count("trending_songs") >= 1
        assert (SYSTEM.content in system) == (len(dialog) == 2)
        assert ("Environment: ipython" in system) == (style != "python_list")
        assert "trending_songs" not in rest


def test_parameters_are_json_schema_unless_meta_s_list_is_asked_for() -> None:
    question = [Message(role="user", content="q")]
    text = _text(_chat("json"), question, tools=[SONGS])
    start = text.index("{")
    assert json.JSONDecoder().raw_decode(text, start)[0] == SONGS


def test_python_list_shows_functions_beside_builtins() -> None:
    question = [Message(role="user", content="q")]
    text = _text(_chat("python_list"), question, tools=[SONGS, "wolfram_alpha"])
    assert "\n\nEnvironment: ipython\nTools: wolfram_alpha\n\nYou are an expert" in text


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True)
deep = st.recursive(values, lambda inner: st.lists(inner, max_size=2), max_leaves=12)
function_calls = st.builds(
    ToolCall,
    name=st.sampled_from(["trending_songs", "get_weather"]),
    arguments=st.dictionaries(names, deep, max_size=3),
)
builtin_calls = st.builds(
    ToolCall,
    name=st.sampled_from(["brave_search", "wolfram_alpha"]),
    arguments=st.fixed_dictionaries({"query": texts}),
)
code_calls = st.builds(
    lambda text: call("code_interpreter", code=text),
    st.sampled_from(["print('it\\'s')", "x = 'é\\\\'\nprint(f\"{x}\")\n", "for i in [1]:\n\tpass"]),
)
TOOLS = [SONGS, WEATHER, "brave_search", "wolfram_alpha", "code_interpreter"]


@given(
    style=st.sampled_from(["json", "function_tag", "python_list"]),
    calls=st.lists(function_calls, min_size=1, max_size=3)
    | st.lists(builtin_calls, min_size=1, max_size=2)
    | st.lists(function_calls | builtin_calls, min_size=1, max_size=3)
    | st.lists(code_calls, min_size=1, max_size=2),
    content=st.sampled_from(["", 'Let me see: it\'s {"a": [1]}.\n']),
    options=st.fixed_dictionaries(
        {"tools_in": st.sampled_from(["user", "system"]), "meta_compat": st.booleans()}
    ),
    is_past=st.booleans(),
)
def test_calls_come_back_through_the_parser(
    style: str, calls: list[ToolCall], content: str, options: dict[str, Any], is_past: bool
) -> None:
    """T10 and T11: quotes, apostrophes, line breaks, backslashes, nesting, control characters."""
    chat = _chat(style, **options)
    given_ = assistant(*calls, content=content)
    dialog = [Message(role="user", content="q"), given_]
    dialog += [Message(role="tool", content="r")] * is_past
    prompt = chat.render(dialog, TOOLS, reply=False)
    said = [token for token, flag in zip(prompt.ids, prompt.loss_mask, strict=True) if flag]
    parsed = chat.parse(said, TOOLS)
    assert parsed.tool_calls == given_.tool_calls
    assert parsed.content == content
    assert parsed.finish_reason == "tool_calls"


def test_the_terminator_says_whether_the_message_waits_for_a_built_in_tool() -> None:
    def ends(style: str, *calls: ToolCall, tools: list[Any] | None = None) -> str:
        dialog = [Message(role="user", content="q"), assistant(*calls)]
        prompt = _chat(style).render(dialog, tools, reply=False)
        return trained_text(BYTES, prompt.ids, prompt.loss_mask)[-len("<|eot_id|>") :]

    function, search = call("trending_songs", n=1), call("brave_search", query="x")
    assert ends("json", function) == "<|eot_id|>"
    assert ends("json", function, tools=[SONGS]) == "<|eom_id|>"  # in the ipython environment
    assert ends("function_tag", function, tools=[SONGS]) == "<|eot_id|>"
    assert ends("python_list", function, tools=[SONGS, "brave_search"]) == "<|eot_id|>"
    for style in ("json", "function_tag", "python_list"):
        assert ends(style, search) == "<|eom_id|>"


def test_code_beside_other_calls_stands_behind_a_tag_of_its_own() -> None:
    calls = [call("brave_search", query="x"), call("code_interpreter", code="print(1)")]
    prompt = _chat("json").render([assistant(*calls, calls[1])], reply=False)
    assert trained_text(BYTES, prompt.ids, prompt.loss_mask) == (
        '<|python_tag|>brave_search.call(query="x")<|python_tag|>print(1)<|python_tag|>print(1)'
        "<|eom_id|>"
    )


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("style", "wrong", "complaint"),
    [
        ("python_list", call("f", **{"a b": 1}), "'a b' is not an identifier"),
        ("python_list", call("f g"), "'f g' is not an identifier"),
        ("function_tag", call("f>"), "no place in a function tag"),
        ("python_list", call("f", x=_nested(900)), "nested too deeply for a Python list"),
        ("json", call("f", x=float("nan")), "cannot be written as JSON"),
        ("json", call("brave_search", query=object()), "cannot be written as JSON"),
    ],
)
def test_a_call_that_could_not_be_read_back_is_refused(
    style: str, wrong: ToolCall, complaint: str
) -> None:
    with pytest.raises(RequestError, match=complaint):
        _chat(style).render([assistant(wrong)], reply=False)


def test_a_schema_that_is_no_json_is_refused() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"default": object()}}}
    with pytest.raises(RequestError, match="'f' cannot be written as JSON"):
        _chat("json").render([Message(role="user", content="q")], [tool])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"tool_style": "xml"}, "one of"),
        ({"tools_in": "assistant"}, "'user' or 'system' is expected"),
        ({"dialect": "hf", "tool_style": "python_list"}, "'meta', which alone has them"),
        ({"dialect": "hf3", "meta_compat": True}, "'meta', which alone has them"),
    ],
)
def test_options_without_meaning_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        ChatFormat(BYTES, **options)
