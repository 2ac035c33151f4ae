"""`/v1/batches`: a file of requests that are answered when there is time.

Source: OpenAI API reference, batch.
"""

from typing import Literal

from puna.serve.bodies.strict import Body, Text

Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]


class ExpiresAfter(Body):
    """When the files of the answers may go; puna keeps them until they are deleted."""

    anchor: Literal["created_at"]
    seconds: int


class BatchBody(Body):
    """The body of a new batch."""

    input_file_id: Text
    endpoint: Endpoint
    completion_window: Literal["24h"]
    metadata: dict[str, str] | None = None
    output_expires_after: ExpiresAfter | None = None


class BatchLine(Body):
    """One line of the file."""

    custom_id: Text
    method: Literal["POST"]
    url: Endpoint
    body: dict[str, object]
