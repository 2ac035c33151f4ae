"""The template that puna writes beside its own models says what the native renderer says."""

from pathlib import Path

import pytest

import puna.chat
from puna.chat.format import ChatFormat
from tests.chat.dialogs import BYTES

TEMPLATE = (Path(puna.chat.__file__).parent / "meta.jinja").read_text()
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
