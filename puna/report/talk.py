"""The sample conversation as chat bubbles, with every tool call and its result in view.

A sample is either `{"question", "answer", "calls": [{"name", "arguments", "result"}]}` or
`{"messages": [...]}` in OpenAI's form.
"""

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from puna.report.facts import Facts
from puna.report.parts import section

Table = Mapping[str, Any]


def talk(facts: Facts) -> str | None:
    """Return the conversation, None where none was held."""
    turns = [bubble for sample in facts.samples for bubble in _bubbles(sample)]
    if not turns:
        return None
    body = f'<ol class="talk">{"".join(turns)}</ol>'
    return section(
        "A conversation", body, note="Written by this model at the end of this run, greedily."
    )


def _bubbles(sample: Table) -> list[str]:
    if "messages" in sample:
        return [bubble for message in sample["messages"] for bubble in _message(message)]
    turns = [_bubble("user", "You", str(sample.get("question", "")))]
    for call in sample.get("calls") or ():
        turns.append(_call(str(call["name"]), call.get("arguments", {})))
        turns.append(_bubble("tool", str(call["name"]), str(call.get("result", "")), code=True))
    return [*turns, _bubble("assistant", "Assistant", str(sample.get("answer", "")))]


def _message(message: Table) -> list[str]:
    role = str(message["role"])
    if role == "system":
        return []
    if role in ("tool", "ipython"):
        return [_bubble("tool", "Result", str(message["content"]), code=True)]
    names = {"user": "You", "assistant": "Assistant"}
    turns = [_bubble(role, names.get(role, role), str(message["content"]))] * bool(
        message.get("content")
    )
    for call in message.get("tool_calls") or ():
        function = call["function"]
        turns.append(_call(str(function["name"]), function["arguments"]))
    return turns


def _call(name: str, arguments: Any) -> str:
    """Write a call as the model wrote it."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except json.JSONDecodeError:
            arguments = {"arguments": arguments}
    given = ", ".join(
        f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in arguments.items()
    )
    return _bubble("call", "Tool call", f"{name}.call({given})", code=True)


def _bubble(kind: str, speaker: str, text: str, *, code: bool = False) -> str:
    shown = f"<code>{escape(text)}</code>" if code else escape(text)
    return (
        f'<li class="{escape(kind)}"><span>{escape(speaker)}</span><p dir="auto">{shown}</p></li>'
    )
