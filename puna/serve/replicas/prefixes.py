"""The keys of a request's text: each stands for everything up to its end, as pages of a cache do.

The front has no tokenizer, so it cuts the text of a body into pieces of equal length; two requests
share as many keys as their texts share pieces from the beginning. What a cache cannot share is in
the first key: another model, another owner, other tools.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

PIECE = 64  # characters: about one page of 16 tokens, at four characters a token

# What is rendered in front of a dialog, or decides how.
_HEAD = ("model", "tools", "chat_template_kwargs", "server_tools", "instructions")


def prefix_keys(path: str, body: Any, owner: bytes) -> tuple[bytes, ...]:
    """Return the keys of a body, in order; none for what is no text to continue.

    Args:
        path: of the request: texts of two endpoints are rendered differently.
        body: as JSON was read; anything.
        owner: what the client proved who it is with; caches are not shared between owners.
    """
    if not isinstance(body, Mapping):
        return ()
    text = _text(path, body)
    if text is None:
        return ()
    head = _json([path, *(body.get(name) for name in _HEAD)])
    key = hashlib.blake2b(head + b"\0" + owner, digest_size=16).digest()
    keys = []
    for start in range(0, len(text) - PIECE + 1, PIECE):
        piece = text[start : start + PIECE].encode("utf-8", "surrogatepass")
        key = hashlib.blake2b(key + piece, digest_size=16).digest()
        keys.append(key)
    return tuple(keys)


def _text(path: str, body: Mapping[str, Any]) -> str | None:
    match path:
        case "/v1/chat/completions":
            return "".join(_messages(body.get("messages")))
        case "/v1/responses":
            given = body.get("input")
            return given if isinstance(given, str) else "".join(_messages(given))
        case "/v1/completions":
            return _prompt(body.get("prompt"))
        case _:
            return None


def _messages(given: Any) -> Iterator[str]:
    """Yield each message as text; what is null reads as what was left out."""
    for message in given if isinstance(given, list) else []:
        if isinstance(message, Mapping):
            message = {key: value for key, value in message.items() if value is not None}
        yield _json(message).decode("utf-8", "surrogatepass")


def _prompt(given: Any) -> str | None:
    """Return a prompt as text: of several, the first."""
    if isinstance(given, str):
        return given
    if not isinstance(given, Sequence) or not given:
        return None
    if all(isinstance(item, int) for item in given):
        return " ".join(map(str, given))
    return _prompt(given[0])


def _json(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


__all__ = ["PIECE", "prefix_keys"]
