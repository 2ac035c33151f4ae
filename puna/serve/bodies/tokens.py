"""`/tokenize` and `/detokenize`, in the form of vLLM.

Source: vLLM, OpenAI-compatible server, tokenizer API.
"""

from typing import Annotated

from pydantic import Field

from puna.serve.bodies.chat import ChatMessage, FunctionTool
from puna.serve.bodies.strict import Body, Object, Text
from puna.serve.bodies.text import Id


class TokenizeBody(Body):
    """A text, or a dialog as the model will see it."""

    model: Text | None = None
    prompt: str | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1)] | None = None
    tools: list[FunctionTool] | None = None
    add_special_tokens: bool | None = None  # begin-of-text before a text; true without it
    add_generation_prompt: bool | None = None  # the header of the answer; true without it
    return_token_strs: bool | None = None
    chat_template_kwargs: Object | None = None


class DetokenizeBody(Body):
    """Ids that become a text."""

    model: Text | None = None
    tokens: list[Id]
