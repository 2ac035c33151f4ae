"""A span for each request, where OpenTelemetry is installed and the operator has set it up.

puna needs its API alone; without an SDK in the operator's environment a span costs nothing. The
trace of the caller (W3C `traceparent`) is continued. Texts are never part of a span.

Source: OpenTelemetry, semantic conventions for generative AI (names of the attributes).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from puna.serve.call import Call

_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}


class Tracer:
    """The spans of one server."""

    def __init__(self) -> None:
        try:
            from opentelemetry import propagate, trace
        except ImportError:  # no API, no spans
            self._trace = self._propagate = None
            return
        self._trace, self._propagate = trace, propagate
        self._tracer = trace.get_tracer("puna.serve")

    @contextmanager
    def span(self, call: Call, headers: Mapping[bytes, str]) -> Iterator[None]:
        """Hold a span open while a request is answered."""
        operation = _OPERATIONS.get(call.path)
        if self._trace is None or self._propagate is None or operation is None:
            yield
            return
        carried = {key.decode("latin-1"): value for key, value in headers.items()}
        context = self._propagate.extract(carried) if "traceparent" in carried else None
        with self._tracer.start_as_current_span(
            f"{operation} {call.path}", context=context, kind=self._trace.SpanKind.SERVER
        ) as span:
            try:
                yield
            finally:
                if span.is_recording():
                    span.set_attributes(attributes_of(call, operation))


def attributes_of(call: Call, operation: str) -> dict[str, Any]:
    """Return what a span tells of a request."""
    told: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.system": "puna",
        "gen_ai.request.model": call.model,
        "http.response.status_code": call.status,
        "puna.request.id": call.id,
    }
    if call.reason is not None:
        told["gen_ai.response.finish_reasons"] = (call.reason,)
    if call.spent is not None:
        told["gen_ai.usage.input_tokens"] = call.spent.prompt_tokens
        told["gen_ai.usage.output_tokens"] = call.spent.completion_tokens
        told["puna.usage.cached_tokens"] = call.spent.cached_tokens
    return told
