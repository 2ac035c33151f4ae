import json
from datetime import date, datetime, timedelta
from typing import Any

import jinja2
import jinja2.ext
import jinja2.sandbox
import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.chat.format import ChatFormat
from puna.chat.messages import Message, ToolCall, to_openai
from puna.errors import RequestError
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.ranks import RankTokenizer, read_ranks
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
from tests.testdata import testdata

TEMPLATE = testdata("templates/llama-3.1-8b-instruct.jinja").read_text()
HF = ChatFormat(BYTES, "hf")
BY_TEMPLATE = ChatFormat(BYTES, TEMPLATE)
BOTH = {
    tools_in: (
        ChatFormat(BYTES, "hf", tools_in=tools_in),
        ChatFormat(BYTES, TEMPLATE, tools_in=tools_in),
    )
    for tools_in in ("user", "system")
}


def _environment() -> jinja2.Environment:
    """The environment of transformers, written once more, so that the oracle is independent."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(
        value, ensure_ascii=False, indent=indent
    )
    return environment


ORACLE = _environment().from_string(TEMPLATE)


def _oracle(
    messages: list[Message],
    tools: list[Any] | None = None,
    day: date | None = None,
    reply: bool = True,
    tools_in: str = "user",
) -> str:
    """Render the published template as transformers does."""
    functions = [tool for tool in tools or () if isinstance(tool, dict)]
    builtins = [tool for tool in tools or () if isinstance(tool, str)]
    dialog = [to_openai(message) for message in messages]
    for message in dialog:
        for tool_call in message.get("tool_calls", ()):
            arguments = json.loads(tool_call["function"]["arguments"])
            tool_call["function"]["arguments"] = arguments
    optional: dict[str, Any] = {}
    if builtins:
        optional["builtin_tools"] = builtins
    if day:
        optional["date_string"] = day.strftime("%d %b %Y")
    return ORACLE.render(
        messages=dialog,
        tools=functions or None,
        bos_token="<|begin_of_text|>",
        add_generation_prompt=reply,
        tools_in_user_message=tools_in == "user",
        **optional,
    )


def _harmless(text: str) -> str:
    return text.replace("<|", "<").replace("|>", ">")


safe_texts = texts.map(_harmless)
arguments = st.dictionaries(safe_texts, values, max_size=3).map(
    lambda found: json.loads(_harmless(json.dumps(found)))
)
queries = st.dictionaries(st.sampled_from(["query", "unit"]), safe_texts, max_size=2)
calls = st.builds(ToolCall, name=st.just("trending_songs"), arguments=arguments) | st.builds(
    ToolCall, name=st.just("brave_search"), arguments=queries
)
turns = st.one_of(
    st.builds(
        Message, role=st.sampled_from(["system", "user", "assistant", "tool"]), content=safe_texts
    ),
    st.builds(lambda one: assistant(one), calls),
)


@st.composite
def dialogs(draw: st.DrawFn) -> list[Message]:
    opening = [Message(role="user", content=draw(safe_texts))]
    if draw(st.booleans()):
        opening.insert(0, Message(role="system", content=draw(safe_texts)))
    return [*opening, *draw(st.lists(turns, max_size=5))]


tool_sets = st.sampled_from(
    [None, [SONGS], ["brave_search"], [SONGS, "brave_search", "code_interpreter"]]
)
days = st.none() | st.dates(min_value=date(1000, 1, 1))


@given(dialogs(), tool_sets, days, st.booleans(), st.sampled_from(["user", "system"]))
def test_hf_equals_the_published_template(
    messages: list[Message], tools: list[Any] | None, day: date | None, reply: bool, tools_in: str
) -> None:
    expected = encode_split(BYTES, _oracle(messages, tools, day, reply, tools_in))
    native, template = BOTH[tools_in]
    assert native.render(messages, tools, day, reply).ids == expected
    # The template itself, run by puna, gives the same ids and the same loss mask.
    assert template.render(messages, tools, day, reply) == native.render(
        messages, tools, day, reply
    )


@pytest.fixture(scope="module")
def llama3() -> Tokenizer:
    return RankTokenizer(read_ranks(testdata("tokenizers/llama3/tokenizer.model")))


def test_hf_equals_the_published_template_on_the_real_tokenizer(llama3: Tokenizer) -> None:
    dialog = [
        Message(role="system", content="  Answer in 日本語.\n"),
        Message(role="user", content="\n\tWhat's 2+2?   \n"),
        assistant(call("brave_search", query="2+2 \n is")),
        Message(role="tool", content='{"answer": "  4"}'),
        Message(role="assistant", content="\u2003It is 4.\r\n\r\n"),
        Message(role="user", content=""),
    ]
    tools = ["brave_search", SONGS]
    expected = encode_split(llama3, _oracle(dialog, tools))
    assert ChatFormat(llama3, "hf").render(dialog, tools).ids == expected
    assert ChatFormat(llama3, TEMPLATE).render(dialog, tools).ids == expected


@pytest.mark.parametrize(
    "chat", [HF, BY_TEMPLATE, ChatFormat(BYTES, "hf3")], ids=["hf", "template", "hf3"]
)
def test_control_tokens_in_messages_stay_text(chat: ChatFormat) -> None:
    def dialog(text: str) -> list[Message]:
        return [Message(role=role, content=text) for role in ("system", "user", "assistant")]

    controls = set(BYTES.specials.values())
    ids = chat.render(dialog(INJECTION)).ids
    harmless = chat.render(dialog("x")).ids
    assert [i for i in ids if i in controls] == [i for i in harmless if i in controls]
    assert BYTES.decode(ids).count(INJECTION) == 3


@pytest.mark.parametrize("chat", [HF, BY_TEMPLATE], ids=["hf", "template"])
def test_control_tokens_in_calls_and_tools_stay_text(chat: ChatFormat) -> None:
    """Through `trim` and `tojson` too, and in keys as well as values."""

    def ids(text: str) -> list[int]:
        function = {**SONGS["function"], "description": text, text: [{text: text}]}
        dialog = [
            Message(role="user", content=f" {text}\n"),
            assistant(call("trending_songs", **{text: [text, {text: text}]})),
            Message(role="tool", content=text),
            assistant(call("brave_search", query=text)),
        ]
        return chat.render(dialog, ["brave_search", {**SONGS, "function": function}]).ids

    controls = set(BYTES.specials.values())
    assert [i for i in ids(INJECTION) if i in controls] == [i for i in ids("x") if i in controls]


def test_the_loss_is_on_assistant_bodies_and_their_terminators() -> None:
    dialog = [
        Message(role="user", content="a"),
        assistant(call("brave_search", query="b")),
        Message(role="tool", content="c"),
        Message(role="assistant", content=" d\n"),
        Message(role="user", content="e"),
        Message(role="assistant", content="f"),
    ]
    prompt = HF.render(dialog, ["brave_search"], reply=False)
    assert trained_text(BYTES, prompt.ids, prompt.loss_mask) == (
        '<|python_tag|>brave_search.call(query="b")<|eom_id|>d<|eot_id|>f<|eot_id|>'
    )


def test_the_date_is_an_argument_and_english() -> None:
    user = [Message(role="user", content="Hi")]
    march = BYTES.decode(HF.render(user, date=date(2025, 3, 5)).ids)
    assert "Today Date: 05 Mar 2025\n\n" in march
    assert "Today Date: 26 Jul 2024\n\n" in BYTES.decode(HF.render(user).ids)
    first = date(2025, 1, 15)
    for month in range(12):
        day = first + timedelta(days=30 * month)
        text = BYTES.decode(HF.render(user, date=day).ids)
        assert datetime.strptime(text.split("Today Date: ")[1][:11], "%d %b %Y").date() == day


def test_hf3_is_the_format_of_llama_3() -> None:
    dialog = [Message(role="system", content=" Be brief.\n"), Message(role="user", content="Hi ")]
    prompt = ChatFormat(BYTES, "hf3").render(dialog, date=date(2025, 3, 5))
    assert BYTES.decode(prompt.ids) == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


@pytest.mark.parametrize(
    ("dialect", "messages", "tools", "complaint"),
    [
        ("hf3", [Message(role="tool", content="x")], None, "no place"),
        ("hf3", [Message(role="user", content="x")], ["brave_search"], "no place"),
        ("hf", [assistant(call("f"), call("f"))], None, "exactly one call"),
        ("hf", [assistant(call("f"), content="x")], None, "nothing beside it"),
        ("hf", [assistant(call("brave_search", n=1))], ["brave_search"], "text only"),
        ("hf", [Message(role="system", content="x")], [SONGS], "first user message"),
        ("hf", [Message(role="assistant", content="x")], [SONGS], "first user message"),
    ],
)
def test_what_the_template_would_drop_or_garble_is_refused(
    dialect: str, messages: list[Message], tools: list[Any] | None, complaint: str
) -> None:
    with pytest.raises(RequestError, match=complaint):
        ChatFormat(BYTES, dialect).render(messages, tools)
