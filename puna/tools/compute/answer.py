"""An answer: titled pieces of text, as Wolfram Alpha gives them and Llama 3.1 has seen them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MAX_TEXT = 2000  # characters of one pod


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One piece of an answer. The primary one is the result that was asked for."""

    title: str
    text: str
    is_primary: bool = False


def interpreted(text: str) -> Pod:
    """Say how a question was understood."""
    return Pod(title="Input interpretation", text=text)


def result(text: str) -> Pod:
    """Say the result."""
    return Pod(title="Result", text=text, is_primary=True)


def to_json(query: str, pods: Sequence[Pod]) -> str:
    """Write an answer as the service's JSON, without what only a web page needs.

    Source: Meta's prompt format of Llama 3.1, example of `wolfram_alpha`.
    """
    tables: list[dict[str, Any]] = []
    for pod in pods:
        table: dict[str, Any] = {"title": pod.title}
        if pod.is_primary:
            table["primary"] = True
        table["subpods"] = [{"title": "", "plaintext": shortened(pod.text)}]
        tables.append(table)
    answer = {"success": True, "inputstring": shortened(query, 400), "pods": tables}
    return json.dumps({"queryresult": answer}, ensure_ascii=False)


def shortened(text: str, limit: int = MAX_TEXT) -> str:
    """Keep the beginning of a long text and say how much is left out."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]} ... ({len(text) - limit:,} of {len(text):,} characters left out)"
