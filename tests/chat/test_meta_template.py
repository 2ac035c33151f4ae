"""The template that puna writes beside its own models says what the native renderer says."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import puna.chat
from puna.chat.contents import Image
from puna.chat.format import ChatFormat
from puna.chat.messages import Message, ToolCall
from tests.chat.dialogs import BYTES, INJECTION, SONGS, assistant, call, texts, values

TEMPLATE = (Path(puna.chat.__file__).parent / "meta.jinja").read_text()
NATIVE = ChatFormat(BYTES, "meta")
WRITTEN = ChatFormat(BYTES, TEMPLATE)
SONGS_TOO = {"type": "function", "function": {"name": "calculator_too", "parameters": {}}}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "call-1",
            "type": "function",
            "function": {"name": "calculator", "arguments": {"query": "12 * 34"}},
        }
    ],
}
PLAIN = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " Hi <|eot_id|> there\n"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "¿Qué?"},
]
WITH_TOOL = [
    {"role": "system", "content": "You are cria, a baby llama."},
    {"role": "user", "content": "What is 12 * 34?"},
    CALL,
    {"role": "tool", "tool_call_id": "call-1", "content": "408"},
    {"role": "assistant", "content": "The answer is 408."},
    {"role": "user", "content": "Thanks!"},
]


@pytest.mark.parametrize(
    ("dialog", "tools"),
    [
        (PLAIN, None),
        (PLAIN[1:], None),
        (PLAIN, ["calculator"]),
        (PLAIN[1:], ["calculator"]),
        (WITH_TOOL, ["calculator"]),
        (WITH_TOOL[1:], ["calculator"]),
    ],
)
def test_the_template_equals_the_native_renderer(
    dialog: list[dict[str, object]], tools: list[str] | None
) -> None:
    native = ChatFormat(BYTES, "meta").render(dialog, tools=tools)
    written = ChatFormat(BYTES, TEMPLATE).render(dialog, tools=tools)
    assert BYTES.decode(written.ids) == BYTES.decode(native.ids)
    assert written.ids == native.ids


function_calls = st.builds(
    ToolCall, name=st.just("trending_songs"), arguments=st.dictionaries(texts, values, max_size=2)
)
builtin_calls = st.builds(
    ToolCall,
    name=st.sampled_from(["brave_search", "calculator"]),
    arguments=st.dictionaries(st.sampled_from(["query", "n"]), texts | st.integers(), max_size=2),
)
code_calls = st.builds(
    lambda code: call("code_interpreter", code=code), st.sampled_from(["print(1)\n", INJECTION])
)
turns = st.one_of(
    st.builds(Message, role=st.sampled_from(["assistant", "tool", "system"]), content=texts),
    st.builds(
        lambda text, places: Message(
            role="user", content=text, images=tuple(Image(at=at % (len(text) + 1)) for at in places)
        ),
        texts,
        st.lists(st.just(0), max_size=1),
    ),
    st.builds(
        lambda calls, content: assistant(*calls, content=content),
        st.lists(function_calls | builtin_calls | code_calls, min_size=1, max_size=3),
        texts,
    ),
)
tool_sets = st.sampled_from(
    [None, [SONGS], ["brave_search"], ["code_interpreter"], [SONGS, "calculator", SONGS_TOO]]
)


@given(
    system=st.none() | texts,
    rest=st.lists(turns, max_size=5),
    tools=tool_sets,
    day=st.none() | st.dates(min_value=date(1000, 1, 1)),
    reply=st.booleans(),
)
def test_the_template_equals_the_native_renderer_for_any_dialog(
    system: str | None, rest: list[Message], tools: list[Any] | None, day: date | None, reply: bool
) -> None:
    dialog = [Message(role="user", content="Hi"), *rest]
    if system is not None:
        dialog.insert(0, Message(role="system", content=system))
    native = NATIVE.render(dialog, tools, day, reply)
    written = WRITTEN.render(dialog, tools, day, reply)
    assert BYTES.decode(written.ids) == BYTES.decode(native.ids)
    # Between two control tokens a template's text is encoded as one, and so it is the same here
    # only because a byte is a token.
    assert written == native
