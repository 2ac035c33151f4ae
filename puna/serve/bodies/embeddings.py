"""`/v1/embeddings`: texts or ids that become vectors.

Source: OpenAI API reference, embeddings; `pooling` is not OpenAI's.
"""

from typing import Annotated, Literal

from pydantic import Field

from puna.serve.bodies.strict import Accounting, Text
from puna.serve.bodies.text import Ids


class EmbeddingsBody(Accounting):
    """The body of a request for embeddings."""

    model: Text | None = None
    input: Text | Ids | Annotated[list[Text] | list[Ids], Field(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    pooling: Literal["mean", "last"] | None = None
