"""Results of MCP servers as text."""

import pytest

pytest.importorskip("mcp_types", reason="the extra `tools` is not installed")

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from puna.tools.mcp_text import result_text


def text(value: str) -> TextContent:
    return TextContent(type="text", text=value)


def test_texts_stand_on_lines_of_their_own() -> None:
    assert result_text(CallToolResult(content=[text("a"), text("b")])) == "a\nb"


def test_an_empty_result_is_said_to_be_empty() -> None:
    assert result_text(CallToolResult(content=[])) == "(the tool returned nothing)"
    assert result_text(CallToolResult(content=[], is_error=True)).startswith("error: ")


@pytest.mark.parametrize(
    ("texts", "data", "said"),
    [
        (["3"], {"result": 3}, "3"),
        (["owl"], {"result": "owl"}, "owl"),
        (["owl", "lion"], {"result": ["owl", "lion"]}, "owl\nlion"),
        (['{"b": 1, "a": 2}'], {"a": 2, "b": 1}, '{"b": 1, "a": 2}'),
        (["two animals"], {"count": 2}, 'two animals\n{"count": 2}'),
        ([], {"name": "Käuzchen"}, '{"name": "Käuzchen"}'),
        (["[" * 100_000], {"a": 1}, "[" * 100_000 + '\n{"a": 1}'),
    ],
)
def test_data_is_added_unless_the_text_says_it(texts: list[str], data: object, said: str) -> None:
    result = CallToolResult(content=[text(value) for value in texts], structured_content=data)
    assert result_text(result) == said


def test_resources_are_shown_or_named() -> None:
    note = TextResourceContents(uri="zoo://note", text="Feed the owl.")
    blob = BlobResourceContents(uri="zoo://map", blob="AAAA", mime_type="image/png")
    content = [
        EmbeddedResource(type="resource", resource=note),
        EmbeddedResource(type="resource", resource=blob),
        ResourceLink(type="resource_link", name="plan", uri="zoo://plan"),
        AudioContent(type="audio", data="AAAA", mime_type="audio/wav"),
    ]
    assert result_text(CallToolResult(content=content)).splitlines() == [
        "Feed the owl.",
        "[resource: zoo://map, image/png; it cannot be shown here]",
        "[resource: plan, zoo://plan]",
        "[audio: audio/wav, 3 bytes; it cannot be shown here]",
    ]
