"""`/v1/completions`: a text or ids to continue.

Source: OpenAI API reference, completions.
"""

from typing import Annotated

from pydantic import Field

from puna.serve.bodies.chat import Limit, ResponseFormat
from puna.serve.bodies.strict import Sampling, StreamOptions, Text

Id = Annotated[int, Field(ge=0)]
Ids = Annotated[list[Id], Field(min_length=1)]


class TextBody(Sampling):
    """The body of a completion."""

    model: Text | None = None
    prompt: str | Ids | Annotated[list[str] | list[Ids], Field(min_length=1, max_length=256)]
    suffix: str | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    best_of: Annotated[int, Field(ge=1, le=128)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None


__all__ = ["Id", "Ids", "Limit", "TextBody"]
