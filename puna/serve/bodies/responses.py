"""`/v1/responses`: items in, items out.

Source: OpenAI API reference, responses. What needs a service of OpenAI's own is refused.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from puna.serve.bodies.chat import JsonObject, Limit, TextFormat
from puna.serve.bodies.strict import Accounting, Body, Object, Seed, Share, Text


class FlatSchema(Body):
    """JSON of a schema, its fields beside the type."""

    type: Literal["json_schema"]
    name: Text
    schema_: Object | bool = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class Reasoning(Body):
    """How much the model thinks before it speaks: Llama 3.1 does not."""

    effort: Literal["none"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None  # of nothing
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class TextSettings(Body):
    """How the text of the answer is wanted."""

    verbosity: Literal["medium"] | None = None  # as long as the model finds right

    format: Annotated[TextFormat | JsonObject | FlatSchema, Field(discriminator="type")] | None = (
        None
    )


class FlatFunction(Body):
    """A function that the client can run, its fields beside the type."""

    model_config = ConfigDict(extra="allow", strict=True)

    type: Literal["function"]
    name: Text
    description: str | None = None
    parameters: Object | None = None
    strict: bool | None = None


class HostedTool(Body):
    """A tool that the server runs where its operator allows it."""

    model_config = ConfigDict(extra="allow", strict=True)

    type: Literal["code_interpreter", "web_search", "web_search_preview"]


class FlatChoice(Body):
    """The tool that must be called."""

    type: Literal["function"]
    name: Text


class ResponsesBody(Accounting):
    """The body of a response."""

    model: Text | None = None
    input: str | Annotated[list[dict[str, Any]], Field(min_length=1)]
    instructions: str | None = None
    previous_response_id: Text | None = None
    max_output_tokens: Limit | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Share | None = None
    seed: Seed | None = None
    text: TextSettings | None = None
    reasoning: Reasoning | None = None
    tools: list[Annotated[FlatFunction | HostedTool, Field(discriminator="type")]] | None = None
    tool_choice: Literal["none", "auto", "required"] | FlatChoice | None = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    stream_options: Object | None = None
    store: bool | None = None
    truncation: Literal["disabled"] | None = None  # puna never cuts a prompt
    background: Literal[False] | None = None
    include: list[str] | None = None
