"""What an MCP server answers, as text for the model.

Pictures and sounds become a note that they exist; data that the text already says is not said
twice. A result that the server marks as an error begins with `error:`, as every tool's does.
"""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcp_types import CallToolResult, ContentBlock


def result_text(result: "CallToolResult") -> str:
    """Return the whole result as text."""
    parts = [_block_text(block) for block in result.content]
    data = result.structured_content
    if data is not None and not _is_said(data, parts):
        parts.append(json.dumps(data, ensure_ascii=False))
    text = "\n".join(part for part in parts if part)
    if result.is_error:
        return f"error: {text or 'the server gives no reason'}"
    return text or "(the tool returned nothing)"


def _block_text(block: "ContentBlock") -> str:
    match block.type:
        case "text":
            return block.text
        case "image" | "audio":
            size = len(block.data) * 3 // 4  # base64
            return f"[{block.type}: {block.mime_type}, {size:,} bytes; it cannot be shown here]"
        case "resource_link":
            return f"[resource: {block.name}, {block.uri}]"
        case "resource":
            text = getattr(block.resource, "text", None)
            if isinstance(text, str):
                return text
            kind = block.resource.mime_type or "unknown kind"
            return f"[resource: {block.resource.uri}, {kind}; it cannot be shown here]"


def _is_said(data: Any, texts: list[str]) -> bool:
    """Whether the texts hold the data already: the SDK sends both for every function's result."""
    if isinstance(data, dict) and data.keys() == {"result"}:
        value = data["result"]
        values = value if isinstance(value, list) else [value]
        if len(values) == len(texts) and all(map(_says, texts, values)):
            return True
        if len(texts) == 1 and _says(texts[0], value):
            return True
    return any(_says(text, data) for text in texts)


def _says(text: str, value: Any) -> bool:
    if isinstance(value, str):
        return text == value
    try:
        return bool(json.loads(text) == value)
    except (ValueError, RecursionError):
        return False
