"""The one argument of Llama 3.1's own tools: a query, given as text.

Search and Wolfram Alpha are called by name with `query="..."`; what the model gets wrong there is
told to it in the same words everywhere.
"""

from collections.abc import Callable, Mapping
from typing import Any

from puna.errors import PunaError

PARAMETERS: Mapping[str, Any] = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "What to look for, in words."}},
    "required": ["query"],
}


def answering(name: str, answer: Callable[[str], str]) -> Callable[[dict[str, Any]], str]:
    """Return the call of a tool: it checks the query, and failures become text for the model."""

    def call(arguments: dict[str, Any]) -> str:
        query = arguments.get("query")
        if not isinstance(query, str) or len(arguments) != 1:
            return f"error: {name}: exactly one argument is expected, query, which is text."
        if not query.strip():
            return f"error: {name}: the query is empty; words are expected."
        try:
            return answer(query)
        except PunaError as error:
            return f"error: {name}: {error}"

    return call
