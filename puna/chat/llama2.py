"""The dialect of Llama 2 Chat: instructions stand between [INST] and [/INST], each exchange alone.

Its frame is text, not control tokens, so text that looks like the frame cannot be told from it and
is refused. Each exchange is encoded in one piece with bos before and eos after it.

Source: Meta, Llama 2 reference code, chat completion (facts only).
"""

from collections.abc import Sequence

from puna.chat.declared import Declared
from puna.chat.messages import Message
from puna.chat.pieces import PromptBuilder
from puna.errors import RequestError

SPECIALS = ("<s>", "</s>")
_FRAME = ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>")


def render_llama2(
    out: PromptBuilder, messages: Sequence[Message], tools: Declared, *, reply: bool
) -> None:
    """Append the dialog: a system message at most, then user and assistant in turns."""
    if tools:
        raise RequestError(
            "chat dialect 'llama2': tools are given; Llama 2 has no place for them. Leave them out."
        )
    system = ""
    if messages[0].role == "system":
        system, messages = f"<<SYS>>\n{_framed(messages[0])}\n<</SYS>>\n\n", messages[1:]
    turns = [message.role for message in messages]
    expected = [("user", "assistant")[index % 2] for index in range(len(turns))]
    if turns != expected or (reply and len(turns) % 2 == 0) or not turns:
        raise RequestError(
            f"chat dialect 'llama2': roles {', '.join(turns) or 'none'} given; user and assistant "
            "in turns are expected, and the user's message last where an answer is wanted."
        )
    for index in range(0, len(messages), 2):
        question = _framed(messages[index]).strip()
        out.control("<s>")
        asked = f"[INST] {system}{question} [/INST]"
        system = ""
        if index + 1 == len(messages):
            out.text(asked)
            return
        answer = messages[index + 1]
        if answer.tool_calls:
            raise RequestError("chat dialect 'llama2': tool calls are given; Llama 2 has none.")
        out.run([(asked, False), (f" {answer.body.strip()} ", True)])
        out.control("</s>", trained=True)


def _framed(message: Message) -> str:
    """Refuse text that would be read as the frame round it, and images."""
    if message.images:
        raise RequestError(
            "chat dialect 'llama2': an image is given; Llama 2 sees none. Remove it."
        )
    for tag in _FRAME:
        if tag in message.body:
            raise RequestError(
                f"chat dialect 'llama2': a {message.role} message holds {tag!r}, which is part of "
                "the format and not told from text. Remove it."
            )
    return message.body
