"""`/openapi.json`: the description of the API, made from the classes that check it.

Answers are described where the suite of tests can hold the server to it: errors in full, bodies by
their kind.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic.json_schema import models_json_schema

from puna import __version__
from puna.serve.bodies.strict import Body

_REF = "#/components/schemas/{model}"
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_REASONS = {
    "400": "The request cannot be answered, for the reason that the error says.",
    "401": "The key is missing or wrong.",
    "404": "There is no such thing.",
    "408": "The answer was not whole before its deadline.",
    "413": "The body is too large.",
    "422": "The body has not the form that is described here.",
    "429": "Too many requests wait; Retry-After says when to ask again.",
    "503": "The server is about to stop.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation, as it is described."""

    method: str
    path: str
    says: str
    body: type[Body] | None = None
    streams: bool = False
    kind: str = "application/json"
    form: Mapping[str, Any] | None = None  # the fields of a form, where the body is one
    is_open: bool = False  # no key is needed


def describe(routes: Sequence[Route], *, needs_key: bool) -> dict[str, Any]:
    """Return the description, in OpenAPI 3.1."""
    bodies = list(dict.fromkeys(route.body for route in routes if route.body is not None))
    _, schemas = models_json_schema([(b, "validation") for b in bodies], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(re.sub(r":\w+}", "}", route.path), {})[route.method.lower()] = _operation(
            route, needs_key
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "puna",
            "version": __version__,
            "description": "Llama models over the API of OpenAI.",
        },
        "paths": paths,
        "components": {
            "schemas": {**schemas.get("$defs", {}), "Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, needs_key: bool) -> dict[str, Any]:
    content: dict[str, Any] = {route.kind: {"schema": {}}}
    if route.streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    answers: dict[str, Any] = {"200": {"description": route.says, "content": content}}
    error = {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}}
    for status, reason in _REASONS.items():
        answers[status] = {"description": reason, "content": error}
    told: dict[str, Any] = {"summary": route.says, "responses": answers}
    names = [part[1:-1].partition(":")[0] for part in route.path.split("/") if part[:1] == "{"]
    if names:
        told["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ]
    if route.body is not None:
        schema = {"$ref": _REF.format(model=route.body.__name__)}
        told["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    elif route.form is not None:
        fields = {"type": "object", "required": list(route.form), "properties": dict(route.form)}
        form = {"multipart/form-data": {"schema": fields}}
        told["requestBody"] = {"required": True, "content": form}
    if needs_key and not route.is_open:
        told["security"] = [{"key": []}]
    return told
