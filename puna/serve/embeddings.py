"""`/v1/embeddings`: a text becomes one vector, from the states that the model's head would read.

The mean over the tokens is the default; `last` takes the last token, which has seen all others.
Vectors have length 1, so that a product of two is their cosine. Computed in the model's own thread,
a few texts at a time. Source: OpenAI API reference, embeddings.
"""

import base64
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from puna.errors import ContextError
from puna.llm import LLM
from puna.serve.answering import usage_of
from puna.serve.bodies.embeddings import EmbeddingsBody
from puna.serve.call import Call
from puna.serve.failures import Failure
from puna.serve.served import Served
from puna.serve.state import State
from puna.serve.wire import Reply


async def embed(state: State, call: Call, body: EmbeddingsBody) -> Reply:
    """Answer a request for embeddings."""
    served = state.model(body.model)
    call.model = served.name
    width = served.llm.model.config.width
    if body.dimensions not in (None, width):
        raise Failure(
            400,
            f"dimensions: {body.dimensions} was asked for; the vectors of {served.name} have "
            f"{width}, and cutting them would change what they say. Leave it out.",
            param="dimensions",
        )
    prompts = await served.in_thread(lambda: _ids(served, body))
    vectors = []
    for ids in prompts:  # between two texts others have their turn
        vectors.append(await served.in_thread(partial(vector, served.llm, ids, body.pooling)))
    usage = usage_of(sum(map(len, prompts)), 0, None)
    return Reply.json({
        "object": "list",
        "model": served.name,
        "data": [
            {"object": "embedding", "index": place, "embedding": _written(found, body)}
            for place, found in enumerate(vectors)
        ],
        "usage": {key: usage[key] for key in ("prompt_tokens", "total_tokens")},
    })  # fmt: skip


def _ids(served: Served, body: EmbeddingsBody) -> list[list[int]]:
    given: Any = body.input
    listed = [given] if isinstance(given, str) or isinstance(given[0], int) else given
    prompts = [
        served.tok.encode(item, bos=True) if isinstance(item, str) else list(item)
        for item in listed
    ]
    vocab = served.llm.model.config.vocab
    for place, ids in enumerate(prompts):
        if len(ids) > served.context:
            raise ContextError(
                f"input[{place}] has {len(ids)} tokens; the context of {served.name} is "
                f"{served.context}. Cut the text into parts."
            )
        if max(ids) >= vocab:
            raise Failure(
                400,
                f"input[{place}] holds the id {max(ids)}; the vocabulary has {vocab} ids.",
                param="input",
            )
    return prompts


def vector(llm: LLM, ids: Sequence[int], pooling: str | None = None) -> Tensor:
    """Return the vector of one text, [D] in float32, of length 1."""
    with torch.inference_mode():
        given = torch.tensor([list(ids)], device=llm.model.embed.weight.device)
        states = llm.model.hidden(given)[0].float()
        found = states[-1] if pooling == "last" else states.mean(0)
        return torch.nn.functional.normalize(found, dim=0).cpu()


def _written(found: Tensor, body: EmbeddingsBody) -> str | list[float]:
    if body.encoding_format == "base64":
        return base64.b64encode(found.numpy().astype("<f4").tobytes()).decode()
    return [float(value) for value in found]
