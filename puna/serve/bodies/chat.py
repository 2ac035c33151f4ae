"""`/v1/chat/completions`: a dialog, its tools, and how the answer is wanted.

Source: OpenAI API reference, chat completions. The last group of fields is not OpenAI's.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from puna.serve.bodies.strict import Body, Object, Sampling, StreamOptions, Text


class ChatMessage(Body):
    """One message; what Llama has no place for is refused when the dialog is read."""

    model_config = ConfigDict(extra="allow", strict=True)

    role: Literal["system", "developer", "user", "assistant", "tool", "ipython"]
    content: str | list[Object] | None = None
    name: str | None = None
    tool_calls: list[Object] | None = None
    tool_call_id: str | None = None


class Function(Body):
    """What a function does, for the model."""

    model_config = ConfigDict(extra="allow", strict=True)

    name: Text
    description: str | None = None
    parameters: Object | None = None
    strict: bool | None = None


class FunctionTool(Body):
    """A function that the client can run."""

    type: Literal["function"]
    function: Function


class FunctionName(Body):
    """The name of a function."""

    name: Text


class NamedChoice(Body):
    """The tool that must be called."""

    type: Literal["function"]
    function: FunctionName


class TextFormat(Body):
    """Any text."""

    type: Literal["text"]


class JsonObject(Body):
    """A JSON object."""

    type: Literal["json_object"]


class JsonSchema(Body):
    """A schema and its name."""

    name: Text
    schema_: Annotated[Object | bool, Field(alias="schema")] = Field(default=True, alias="schema")
    description: str | None = None
    strict: bool | None = None


class SchemaFormat(Body):
    """JSON of a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class PatternFormat(Body):
    """Text of a regular expression, or of a grammar in Lark's form; not OpenAI's."""

    type: Literal["regex", "grammar"]
    pattern: Text


ResponseFormat = Annotated[
    TextFormat | JsonObject | SchemaFormat | PatternFormat, Field(discriminator="type")
]
Limit = Annotated[int, Field(ge=1)]


class Dialog(Body):
    """Messages and tools, as they are rendered."""

    model: Text | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    tools: list[FunctionTool] | None = None
    chat_template_kwargs: Object | None = None


class ChatBody(Dialog, Sampling):
    """The body of a chat completion."""

    max_tokens: Limit | None = None
    max_completion_tokens: Limit | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    modalities: list[Literal["text"]] | None = None
    store: bool | None = None
    reasoning_effort: Literal["none"] | None = None  # Llama 3.1 does not think first
    verbosity: Literal["medium"] | None = None  # as long as the model finds right
    prediction: Object | None = None  # a hint that may make an answer faster, and never another

    server_tools: bool | list[Text] | None = None  # tools that the server runs
    scripted_answer: list[Any] | None = None  # for tests alone (docs/conformance.md)
