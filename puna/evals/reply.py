"""Many dialogs answered at once: the one way in which evaluations talk to a model.

An evaluation takes any function from dialogs to answers; `batched_reply` makes one from a model,
through the same renderer and the same decoding that chat uses, with greedy decoding.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from puna.chat.format import ChatFormat
from puna.chat.messages import Message
from puna.infer.generate import generate_ids
from puna.infer.sampling import SamplingConfig
from puna.model.llama import Llama

Dialog = Sequence[Message | Mapping[str, Any]]

# Dialogs and the tools that all of them declare -> one answer each. No tool is run here.
Reply = Callable[[Sequence[Dialog], Sequence[str]], Sequence[Message]]


def batched_reply(
    model: Llama, chat: ChatFormat, *, max_tokens: int = 48, batch: int = 64
) -> Reply:
    """Return a function that answers dialogs greedily, `batch` rows at a time."""

    def reply(dialogs: Sequence[Dialog], tools: Sequence[str] = ()) -> list[Message]:
        prompts = [chat.render(dialog, tools=tools or None).ids for dialog in dialogs]
        answers: list[Message] = []
        for start in range(0, len(prompts), batch):
            written = generate_ids(
                model,
                prompts[start : start + batch],
                max_tokens=max_tokens,
                sampling=SamplingConfig(temperature=0.0),
                stop_ids=chat.tok.stop_ids,
            )
            answers += [chat.parse(row.ids, tools=tools or None) for row in written]
        return answers

    return reply
