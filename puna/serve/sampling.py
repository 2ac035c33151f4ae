"""What a body says about drawing tokens, as the engine understands it.

What a body leaves out is the model's own default (`LLM.sampling`), but for chats of OpenAI's
clients that name nothing but a temperature: then the nucleus stays as the model has it.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from puna.infer.constraints import Constraint
from puna.infer.request import Request
from puna.infer.sampling import SamplingConfig
from puna.serve.bodies.strict import Sampling
from puna.serve.call import Call
from puna.serve.failures import Failure
from puna.serve.served import Served

_FILTERS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")


def request_of(
    served: Served,
    call: Call,
    body: Sampling,
    ids: Sequence[int],
    *,
    max_tokens: int | None,
    n: int = 1,
    best_of: int | None = None,
    stop: Sequence[str] = (),
    logprobs: int | None = None,
    prompt_logprobs: int | None = None,
    constraint: Constraint | None = None,
) -> Request:
    """Return the request of the engine for one prompt."""
    return Request(
        ids=ids,
        sampling=config_of(body, served.llm.sampling),
        max_tokens=max_tokens,
        stop=tuple(stop),
        ignore_eos=bool(body.ignore_eos),
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        logit_bias=_bias(body.logit_bias, served.llm.model.config.vocab),
        constraint=constraint,
        n=n,
        best_of=best_of,
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        priority=body.priority or 0,
        user=f"{call.owner}/{body.owner or ''}",
        salt=call.owner,
    )


def config_of(body: Sampling, defaults: SamplingConfig) -> SamplingConfig:
    """Return the filters of a body, with the model's own where it says nothing."""
    given: dict[str, Any] = {name: getattr(body, name) for name in _FILTERS}
    return dataclasses.replace(defaults, **{k: v for k, v in given.items() if v is not None})


def _bias(given: dict[str, float] | None, vocab: int) -> dict[int, float]:
    bias: dict[int, float] = {}
    for key, value in (given or {}).items():
        token = int(key) if key.isascii() and key.isdigit() and len(key) < 10 else vocab
        if token >= vocab:
            raise Failure(
                400,
                f"logit_bias: the key {key!r} was given; ids of tokens from 0 to {vocab - 1} are "
                "expected.",
                param="logit_bias",
            )
        bias[token] = value
    return bias
