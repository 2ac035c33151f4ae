"""What the fake server's model says: words drawn from the prompt, or what a request forces."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from puna.evals.conformance.segments import from_json, to_ids
from puna.evals.conformance.shapes import BYTES

EOT = BYTES.specials["<|eot_id|>"]
WORDS = ("alder", "birch", "cedar", "élan", "東京", "नमस्ते", "fir", "🦙", "hazel", "ivy", "larch")

Speak = Callable[[Sequence[int], dict[str, Any], int], list[int]]  # prompt, body, which answer


def words(prompt: Sequence[int], body: dict[str, Any], which: int) -> list[int]:
    """Say thirty words that depend on the prompt and the seed alone."""
    seed = [body.get("seed"), which if body.get("temperature") else 0]
    digest = hashlib.sha256(json.dumps([list(prompt), seed]).encode()).digest()
    said = " ".join(WORDS[value % len(WORDS)] for value in digest[:30])
    return [*BYTES.encode(said), EOT]


def forced(body: dict[str, Any]) -> list[int] | None:
    """Return what a request leaves no choice about: a script, a call, JSON in a schema."""
    if "scripted_answer" in body:
        return to_ids(BYTES, from_json(body["scripted_answer"]))
    choice = body.get("tool_choice")
    if choice == "required" or isinstance(choice, dict):
        wanted = choice["function"]["name"] if isinstance(choice, dict) else None
        functions = [tool["function"] for tool in body["tools"]]
        function = next(f for f in functions if wanted in (None, f["name"]))
        arguments = example(function["parameters"])
        call = {"name": function["name"], "parameters": arguments}
        return [*BYTES.encode(json.dumps(call)), EOT]
    form = body.get("response_format")
    if form:
        schema = form.get("json_schema", {}).get("schema", {"type": "object"})
        return [*BYTES.encode(json.dumps(example(schema))), EOT]
    return None


def example(schema: dict[str, Any]) -> Any:
    """Return a value that fits a schema."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            keys = schema.get("required", ())
            return {key: example(schema["properties"][key]) for key in keys}
        case "integer":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case _:
            return "a"
