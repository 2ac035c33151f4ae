"""What goes wrong, as OpenAI's clients read it: a status, a sentence, a type and a code.

Every error of an endpoint becomes a `Failure` and leaves through `answer_of`. What puna did not
foresee is logged and told without its details.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from puna.errors import ContextError, ExtraError, NotFoundError, PunaError, RequestError

# Source: OpenAI, error codes: the type that belongs to a status.
_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "service_unavailable_error",
}


@dataclass(frozen=True, slots=True)
class Failure(Exception):  # noqa: N818  (an answer, not an error of puna)
    """A request that is answered with an error."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None  # the field of the body that is wrong
    retry_after_s: int | None = None
    allow: str | None = None  # methods, where the one that came is not among them

    @property
    def error(self) -> dict[str, Any]:
        """OpenAI's form of the error."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        return {
            "error": {
                "message": self.message, "type": kind, "param": self.param, "code": self.code
            }
        }  # fmt: skip

    @property
    def body(self) -> bytes:
        """The error as JSON."""
        return json.dumps(self.error, ensure_ascii=False).encode("utf-8", "replace")

    @property
    def headers(self) -> dict[str, str]:
        """When to come back, where the failure passes."""
        if self.retry_after_s is not None:
            return {"retry-after": str(self.retry_after_s)}
        if self.allow is not None:
            return {"allow": self.allow}
        return {"www-authenticate": "Bearer"} if self.status == 401 else {}


def failure_of(error: BaseException) -> Failure:
    """Return what a client is told of an error."""
    match error:
        case Failure():
            return error
        case ValidationError():
            return _invalid(error)
        case ContextError():
            return Failure(400, str(error), code="context_length_exceeded", param="messages")
        case RequestError() | PunaError() if not isinstance(error, ExtraError | NotFoundError):
            status = 400 if isinstance(error, ValueError) else 500
            return Failure(status, str(error), code="invalid_request" if status == 400 else None)
        case _:
            return Failure(500, "The server failed; its log says why.", code="internal_error")


def _invalid(error: ValidationError) -> Failure:
    """Tell the first thing that is wrong with a body, and where it stands."""
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return Failure(400, f"The body is no JSON: {first['msg']}.", code="invalid_json")
    where = ".".join(str(part) for part in first["loc"])
    told = first["msg"].rstrip(".")
    if first["type"] == "extra_forbidden":
        told = "this server does not know the field. Remove it"
    more = error.error_count() - 1
    rest = f" ({more} more in the body)" if more else ""
    text = f"{where}: {told}{rest}." if where else f"{told}{rest}."
    return Failure(422, text, code="invalid_body", param=where or None)


def no_such_model(name: str, known: list[str]) -> Failure:
    """Return the failure for a model that is not served."""
    return Failure(
        404,
        f"The model {name!r} is not served here; the models are {', '.join(known)}.",
        code="model_not_found",
        param="model",
    )


def draining() -> Failure:
    """Return the failure for a request that comes while the server ends."""
    return Failure(
        503,
        "The server is about to stop and takes no new requests. Ask another one, or try again.",
        code="draining",
        retry_after_s=5,
    )
