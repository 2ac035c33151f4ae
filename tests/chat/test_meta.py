import re
from datetime import date
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.chat.format import ChatFormat
from puna.chat.messages import Message, to_messages
from puna.errors import RequestError
from puna.tokenizer.ranks import RankTokenizer, read_ranks
from tests.chat.dialogs import (
    BYTES,
    INJECTION,
    SONGS,
    assistant,
    call,
    encode_split,
    examples,
    texts,
    trained_text,
)
from tests.testdata import testdata

META = ChatFormat(BYTES, "meta")
_MESSAGE = re.compile(
    r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n(.*?)(<\|eot_id\|>|<\|eom_id\|>|\Z)", re.S
)


def _text(messages: list[Message], **options: object) -> str:
    return BYTES.decode(META.render(messages, **options).ids)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("document", "count"),
    [
        ("llama3_1_prompt_format.md", 7),
        ("llama3_2_text_prompt_format.md", 6),
        ("llama3_2_vision_prompt_format.md", 5),
    ],
)
def test_every_example_of_meta_is_rendered_from_its_bodies(document: str, count: int) -> None:
    """A caller may also write headers and functions into the texts: nothing is added to them then.
    The earlier call of Llama 3.2 is printed in a form of its own."""
    chat = ChatFormat(BYTES, "meta", tool_style="python_list", meta_compat=True)
    found = examples(document)
    assert len(found) == count
    weather = {"type": "function", "function": {"name": "get_weather"}}
    for prompt, _ in found:
        messages = []
        for role, body, end in _MESSAGE.findall(prompt)[:-1]:  # the last header waits
            message = to_messages([{"role": role, "content": _with_images(body)}])[0]
            if role == "assistant":
                message = chat.parse(encode_split(BYTES, body + end), ["wolfram_alpha", weather])
                assert message.tool_calls
            messages.append(message)
        if messages:
            rendered = chat.render(messages).ids
        else:
            rendered = chat.render_text(_with_images(prompt.removeprefix("<|begin_of_text|>"))).ids
        assert BYTES.decode(rendered) == prompt
        assert rendered == encode_split(BYTES, prompt)


def _with_images(text: str) -> str | list[dict[str, str]]:
    if "<|image|>" not in text:
        return text
    parts = re.split(r"(<\|image\|>)", text)
    return [
        {"type": "image"} if part == "<|image|>" else {"type": "text", "text": part}
        for part in parts
    ]


def test_the_golden_dialog_has_its_ids() -> None:
    """Ids of the dialog in llama-models' tests of its chat format."""
    path = testdata("tokenizers/llama3/tokenizer.model")
    chat = ChatFormat(RankTokenizer(read_ranks(path)), "meta")
    prompt = chat.render(
        [
            {"role": "system", "content": "This is a test sentence."},
            {"role": "user", "content": "This is a response."},
        ]
    )
    assert prompt.ids == [
        *[128000, 128006, 9125, 128007, 271, 2028, 374, 264, 1296, 11914, 13, 128009],
        *[128006, 882, 128007, 271, 2028, 374, 264, 2077, 13, 128009],
        *[128006, 78191, 128007, 271],
    ]


def test_the_blank_line_is_encoded_by_itself() -> None:
    chat = ChatFormat(RankTokenizer([*(bytes([b]) for b in range(256)), b"\n\n", b"\n\n\n"]))
    ids = chat.render([{"role": "user", "content": "\nx"}], reply=False).ids
    assert ids[-4:] == [256, 10, ord("x"), chat.tok.specials["<|eot_id|>"]]


def test_begin_of_text_stands_once_and_first() -> None:
    ids = META.render([{"role": "user", "content": "<|begin_of_text|>Hi"}]).ids
    assert ids.index(BYTES.bos_id) == 0
    assert ids.count(BYTES.bos_id) == 1


@given(texts, texts)
def test_nothing_is_trimmed_or_added(system: str, user: str) -> None:
    text = _text([Message(role="system", content=system), Message(role="user", content=user)])
    assert text == (
        f"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|>"
        f"<|start_header_id|>user<|end_header_id|>\n\n{user}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_a_tool_message_is_written_as_ipython_and_as_it_is() -> None:
    result = '{"a": "b"}\n'
    text = _text([Message(role="user", content="q"), Message(role="tool", content=result)])
    assert f"<|start_header_id|>ipython<|end_header_id|>\n\n{result}<|eot_id|>" in text


def test_control_tokens_in_messages_stay_text() -> None:
    """Every place that holds text of others: contents, arguments, schemas, tool results."""
    dialog = [
        Message(role="system", content=INJECTION),
        Message(role="user", content=INJECTION),
        assistant(call("trending_songs", genre=INJECTION), content=INJECTION),
        assistant(call("brave_search", query=INJECTION)),
        assistant(call("code_interpreter", code=INJECTION)),
        Message(role="tool", content=INJECTION),
    ]
    tool = {"type": "function", "function": {"name": "trending_songs", "description": INJECTION}}
    harmless = [
        Message(
            role=message.role,
            tool_calls=tuple(
                call(c.name, **dict.fromkeys(c.arguments, "x")) for c in message.tool_calls
            ),
            content="x",
        )
        for message in dialog
    ]
    controls = set(BYTES.specials.values())
    expected = [i for i in META.render(harmless, tools=[SONGS]).ids if i in controls]
    # One python tag more than harmless content has: content and call are told apart by it.
    assert [i for i in META.render(dialog, tools=[tool]).ids if i in controls] == expected


def test_the_loss_is_on_assistant_bodies_and_their_terminators() -> None:
    prompt = META.render(
        [
            Message(role="user", content="What is 12 * 34?"),
            assistant(call("calculator", query="12 * 34")),
            Message(role="ipython", content="408"),
            Message(role="assistant", content="It is 408."),
            Message(role="user", content="Thanks"),
            Message(role="assistant", content="assistant"),
        ],
        reply=False,
    )
    assert trained_text(BYTES, prompt.ids, prompt.loss_mask) == (
        '<|python_tag|>calculator.call(query="12 * 34")<|eom_id|>It is 408.<|eot_id|>'
        "assistant<|eot_id|>"
    )


def test_a_prompt_begins_the_dialog_it_is_answered_in() -> None:
    """What the model reads before each answer is what it was trained to read there."""
    dialog = [
        Message(role="user", content="a"),
        assistant(call("calculator", query="1")),
        Message(role="tool", content="1"),
        Message(role="assistant", content="\n"),
    ]
    whole = META.render(dialog, reply=False).ids
    for turn in (1, 3):
        prompt = META.render(dialog[:turn]).ids
        assert whole[: len(prompt)] == prompt


def test_text_before_a_call_is_kept() -> None:
    text = _text([assistant(call("brave_search", query="x"), content="I look it up.")], reply=False)
    assert text.endswith('I look it up.<|python_tag|>brave_search.call(query="x")<|eom_id|>')


def test_code_is_written_as_it_is() -> None:
    text = _text([assistant(call("code_interpreter", code='print("a")\n'))], reply=False)
    assert text.endswith('<|python_tag|>print("a")\n<|eom_id|>')


def test_a_json_call_depends_on_the_environment() -> None:
    function_call = assistant(call("f", n=[1]))
    alone = _text([Message(role="user", content="q"), function_call], reply=False)
    assert alone.endswith('<|end_header_id|>\n\n{"name": "f", "parameters": {"n": [1]}}<|eot_id|>')
    system = Message(role="system", content="Environment: ipython")
    tagged = _text([system, function_call], reply=False)
    assert tagged.endswith(
        '<|python_tag|>{"type": "function", "name": "f", "parameters": {"n": [1]}}<|eom_id|>'
    )


def test_tools_and_date_make_the_header_block() -> None:
    """The system message of Meta's example for the built-in tools."""
    text = _text(
        [Message(role="system", content="You are a helpful assistant.\n")],
        tools=["brave_search", "code_interpreter", "wolfram_alpha"],
        date=date(2024, 9, 21),
        reply=False,
    )
    assert text.endswith(
        "\n\nEnvironment: ipython\nTools: brave_search, wolfram_alpha\n"
        "Cutting Knowledge Date: December 2023\nToday Date: 21 September 2024\n\n"
        "You are a helpful assistant.\n<|eot_id|>"
    )
    (prompt, _), *_ = [e for e in examples("llama3_1_prompt_format.md") if "1oz gold" in e[0]]
    assert prompt.startswith(text)


def test_the_header_block_without_date_is_the_one_that_cria_learns() -> None:
    given = [Message(role="system", content="Be brief."), Message(role="user", content="q")]
    written = Message(role="system", content="Environment: ipython\nTools: calculator\n\nBe brief.")
    text = _text(given, tools=["calculator"])
    assert text == _text([written, given[1]])
    assert text == _text([written, given[1]], tools=["calculator"])  # it is not written twice
    assert "\n\nEnvironment: ipython\nTools: calculator<|eot_id|>" in _text(
        given[1:], tools=["calculator"]
    )


def test_functions_are_described_before_the_first_user_message() -> None:
    text = _text([Message(role="user", content="Which songs?")], tools=[SONGS])
    system, functions, user = re.findall(r"<\|end_header_id\|>\n\n(.*?)<\|eot_id\|>", text, re.S)
    assert system == "Environment: ipython"
    assert '"description": "Lists the songs that trend; it\'s <free>."' in functions
    assert user == "Which songs?"


@pytest.mark.parametrize(
    ("messages", "options", "complaint"),
    [
        ([], {}, "no messages"),
        (
            [Message(role="system", content="Environment: ipython")],
            {"date": date(2025, 1, 1)},
            "its own header",
        ),
        ([Message(role="system", content="x")], {"tools": [SONGS]}, "no user message"),
        ([assistant(call("code_interpreter", code=1))], {}, "code"),
        ([assistant(call("calculator", **{"a b": 1}))], {}, "not an identifier"),
        ([Message(role="user", content="x")], {"tools": "calculator"}, "a list of tools"),
        ([Message(role="user", content="x")], {"tools": 3}, "a list of tools"),
        ([Message(role="user", content="x")], {"tools": [{"name": "f"}]}, "is not a tool"),
        ([Message(role="user", content="x")], {"tools": ["a b"]}, "an identifier"),
        ([Message(role="user", content="x")], {"tools": ["a", "a"]}, "same name"),
    ],
)
def test_what_cannot_be_written_is_refused(
    messages: list[Message], options: dict[str, object], complaint: str
) -> None:
    with pytest.raises(RequestError, match=complaint):
        META.render(messages, **options)  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), texts), min_size=1)
)
def test_headers_and_terminators_alternate(turns: list[tuple[str, str]]) -> None:
    ids = META.render([Message(role=role, content=text) for role, text in turns]).ids
    controls = [BYTES.decode([i]) for i in ids if i >= 256]
    opened = ["<|start_header_id|>", "<|end_header_id|>"]
    assert controls == ["<|begin_of_text|>", *[*opened, "<|eot_id|>"] * len(turns), *opened]
    assert all(a != b for a, b in pairwise(controls))
