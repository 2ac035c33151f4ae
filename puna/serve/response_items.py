"""The items of `/v1/responses` on their way in: they become the messages of a chat completion.

So a response is a chat completion in other words: one renderer, one parser, one engine. Source:
OpenAI API reference, responses, input.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from puna.serve.bodies.chat import ChatBody
from puna.serve.bodies.responses import FlatChoice, FlatFunction, FlatSchema, ResponsesBody
from puna.serve.failures import Failure

# OpenAI's names of tools that run on the server, and what they are called here.
_HOSTED: Mapping[str, str] = {
    "code_interpreter": "code_interpreter",
    "web_search": "brave_search",
    "web_search_preview": "brave_search",
}
_PARTS = {"input_text": "text", "output_text": "text", "text": "text"}
Item = Mapping[str, Any]


def messages_of(given: str | Sequence[Item]) -> list[dict[str, Any]]:
    """Return the messages that items say; calls that follow one another are one message."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    messages: list[dict[str, Any]] = []
    for at, item in enumerate(given):
        match item.get("type", "message"):
            case "message":
                messages.append(_message(item, at))
            case "function_call":
                _add_call(messages, item, at)
            case "function_call_output":
                messages.append({
                    "role": "tool", "tool_call_id": _text(item, "call_id", at),
                    "content": _content(item.get("output"), at),
                })  # fmt: skip
            case kind:
                raise _wrong(
                    at, f"an item of type {kind!r} was given; message, function_call and "
                    "function_call_output are understood"
                )  # fmt: skip
    return messages


def listed(id: str, given: str | Sequence[Item]) -> list[dict[str, Any]]:
    """Return the items that were given, as a client that lists them expects them."""
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    told = []
    for at, item in enumerate(items):
        content = item.get("content")
        if isinstance(content, str):
            kind = "output_text" if item.get("role") == "assistant" else "input_text"
            item = {**item, "content": [{"type": kind, "text": content}]}
        told.append({"type": "message", "id": f"item_{id}_{at}", "status": "completed", **item})
    return told


def _message(item: Item, at: int) -> dict[str, Any]:
    return {"role": _text(item, "role", at), "content": _content(item.get("content"), at)}


def _content(content: Any, at: int) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise _wrong(at, "text or a list of parts is expected as its content")
    parts: list[dict[str, Any]] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in _PARTS and isinstance(part.get("text"), str):
            parts.append({"type": "text", "text": part["text"]})
        elif kind == "input_image":
            parts.append({"type": "image_url", "image_url": {"url": part.get("image_url")}})
        else:
            raise _wrong(at, f"a part of type {kind!r} was given; input_text is expected")
    return parts


def _add_call(messages: list[dict[str, Any]], item: Item, at: int) -> None:
    function = {"name": _text(item, "name", at), "arguments": _text(item, "arguments", at)}
    call = {"id": _text(item, "call_id", at), "type": "function", "function": function}
    if messages and messages[-1]["role"] == "assistant":
        messages[-1].setdefault("tool_calls", []).append(call)
    else:
        messages.append({"role": "assistant", "content": "", "tool_calls": [call]})


def _text(item: Item, key: str, at: int) -> str:
    value = item.get(key)
    if not isinstance(value, str):
        raise _wrong(at, f"{key} is {str(value)[:40]!r}; text is expected")
    return value


def _wrong(at: int, text: str) -> Failure:
    return Failure(400, f"input[{at}]: {text}.", param=f"input[{at}]")


def chat_body(body: ResponsesBody, before: list[dict[str, Any]]) -> ChatBody:
    """Return the chat completion that a response asks for."""
    system = [{"role": "system", "content": body.instructions}] if body.instructions else []
    given: dict[str, Any] = {
        "model": body.model,
        "messages": [*system, *before],
        "temperature": body.temperature,
        "top_p": body.top_p,
        "seed": body.seed,
        "max_completion_tokens": body.max_output_tokens,
        "parallel_tool_calls": body.parallel_tool_calls,
        "tools": [_function(t) for t in body.tools or () if isinstance(t, FlatFunction)] or None,
        "server_tools": [
            _HOSTED[t.type] for t in body.tools or () if not isinstance(t, FlatFunction)
        ] or None,
        "tool_choice": _choice(body.tool_choice),
        "response_format": _format(body),
        "user": body.owner,
    }  # fmt: skip
    return ChatBody.model_validate(
        {key: value for key, value in given.items() if value is not None}
    )


def _function(tool: FlatFunction) -> dict[str, Any]:
    function = tool.model_dump(exclude_unset=True, exclude={"type"})
    return {"type": "function", "function": function}


def _choice(choice: str | FlatChoice | None) -> Any:
    if isinstance(choice, FlatChoice):
        return {"type": "function", "function": {"name": choice.name}}
    return choice


def _format(body: ResponsesBody) -> dict[str, Any] | None:
    wanted = body.text.format if body.text else None
    if wanted is None:
        return None
    if isinstance(wanted, FlatSchema):
        schema = {"name": wanted.name, "schema": wanted.schema_, "strict": wanted.strict}
        return {"type": "json_schema", "json_schema": schema}
    return wanted.model_dump()
