import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.chat.contents import Image
from puna.chat.messages import Message, ToolCall, to_messages, to_openai
from puna.errors import RequestError
from tests.chat.dialogs import call, texts, values


def test_openai_dictionaries_become_messages() -> None:
    dialog = to_messages(
        [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": " b"}],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"n": 1}'},
                    }
                ],
            },
            {"role": "tool", "content": "2", "tool_call_id": "call_1", "name": "f"},
        ]
    )
    assert dialog == [
        Message(role="system", content="Be brief."),
        Message(role="user", content="a b"),
        Message(role="assistant", tool_calls=(call("f", n=1),)),
        Message(role="tool", content="2", tool_call_id="call_1"),
    ]
    assert dialog[2].tool_calls[0].id == "call_1"


def test_what_the_official_client_returns_is_a_message() -> None:
    dumped = {
        "role": "assistant",
        "content": "Hello.",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
    }
    assert to_messages([dumped]) == [Message(role="assistant", content="Hello.")]


def test_arguments_may_be_a_dictionary() -> None:
    function = {"name": "f", "arguments": {"n": {"deep": [1]}}}
    (message,) = to_messages([{"role": "assistant", "tool_calls": [{"function": function}]}])
    assert message.tool_calls[0].arguments == {"n": {"deep": [1]}}
    assert message.tool_calls[0].id.startswith("call_")


def test_images_keep_their_places_in_the_text() -> None:
    url = {"url": "https://example.org/llama.png"}
    parts = [
        {"type": "text", "text": "Left: "},
        {"type": "image_url", "image_url": url},
        {"type": "text", "text": " right: "},
        {"type": "image"},
        {"type": "text", "text": "<|image|>?"},
    ]
    (message,) = to_messages([{"role": "user", "content": parts, "context": "Ears tell."}])
    assert message.content == "Left:  right: <|image|>?"
    assert [(image.at, image.source) for image in message.images] == [(6, url["url"]), (14, None)]
    assert message.parts[::2] == ["Left: ", " right: ", "<|image|>?\n\nEars tell."]
    assert to_openai(message)["content"] == parts
    assert to_messages([to_openai(message)]) == [message]


@pytest.mark.parametrize("places", [(3,), (-1,), (2, 1)])
def test_an_image_stands_inside_its_text(places: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match="places inside the text"):
        Message(role="user", content="ab", images=tuple(Image(at=at) for at in places))


@given(content=texts, arguments=st.dictionaries(texts, values, max_size=3))
def test_a_message_survives_openai(content: str, arguments: dict[str, Any]) -> None:
    message = Message(
        role="assistant",
        content=content,
        tool_calls=(ToolCall(name="f", arguments=arguments),),
    )
    as_text = json.dumps(to_openai(message))
    assert to_messages([json.loads(as_text)]) == [message]


def _calling(arguments: Any, role: str = "assistant") -> dict[str, Any]:
    call = {"function": {"name": "f", "arguments": arguments}}
    return {"role": role, "content": "x", "tool_calls": [call]}


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        ({"role": "robot", "content": "x"}, "unknown role 'robot'"),
        ({"content": "x"}, "unknown role None"),
        ({"role": "user"}, "has no content"),
        ({"role": "user", "content": None}, "has no content"),
        ({"role": "assistant", "content": None, "tool_calls": []}, "has no content"),
        ({"role": "user", "content": 3}, "int given"),
        ({"role": "user", "content": [{"type": "audio", "audio": {}}]}, "'audio'"),
        ({"role": "user", "content": [{"type": "text"}]}, "'text'"),
        ({"role": "system", "content": [{"type": "image"}]}, "holds an image"),
        ({"role": "assistant", "content": "x", "context": "y"}, "holds a context"),
        ({"role": "user", "content": "x", "context": 3}, "text is expected"),
        ({"role": "user", "content": "x", "context": "\udc00"}, "surrogate"),
        ({"role": "user", "content": "x", "name": "Ann"}, "no place for it"),
        ({"role": "user", "content": "x", "reasoning": "y"}, "key 'reasoning'"),
        ({"role": "user", "content": "x", "tool_call_id": "c"}, "only a tool message"),
        ({"role": "user", "content": "\ud800"}, "surrogate"),
        ({"role": "tool", "content": "x", "tool_call_id": 3}, "text is expected"),
        ({"role": "assistant", "tool_calls": "f()"}, "a list is expected"),
        ({"role": "assistant", "tool_calls": ["f()"]}, "not a function call"),
        ({"role": "assistant", "tool_calls": [{"function": {"arguments": {}}}]}, "no name"),
        (_calling("{"), "not JSON"),
        (_calling("[" * 100_000), "not JSON"),
        (_calling("[]"), "a JSON object"),
        (_calling('{"a": "\\ud800"}'), "surrogate"),
        (_calling({"a": set()}), "cannot be written as JSON"),
        (_calling('{"a": NaN}'), "cannot be written as JSON"),
        (_calling("{}", role="user"), "only the assistant calls tools"),
        ("hello", "str given"),
    ],
)
def test_what_has_no_place_is_refused(message: Any, complaint: str) -> None:
    with pytest.raises(RequestError, match=complaint):
        to_messages([message])


@pytest.mark.parametrize("dialog", ["hello", {"role": "user", "content": "x"}, 3, None])
def test_a_dialog_is_a_list(dialog: Any) -> None:
    with pytest.raises(RequestError, match="a list of messages is expected"):
        to_messages(dialog)
