"""`scripted_answer`: in tests, what a request dictates takes the place of the sampled tokens.

Everything after the sampler works as ever: detokenizer, parser, stream, stop reasons. So a test can
put any answer through the server. Only an operator who starts the server for tests allows it.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from puna.errors import RequestError
from puna.infer.request import Event, Spent
from puna.tokenizer.interface import Tokenizer


def script_ids(tok: Tokenizer, segments: Sequence[Any]) -> list[int]:
    """Return the ids of texts and of control tokens, `{"control": "<|eot_id|>"}`."""
    ids: list[int] = []
    for at, segment in enumerate(segments):
        if isinstance(segment, str):
            ids += tok.encode(segment)
        elif isinstance(segment, Mapping) and segment.get("control") in tok.specials:
            ids.append(tok.specials[segment["control"]])
        else:
            raise RequestError(
                f"scripted_answer[{at}]: {str(segment)[:80]!r} was given; a text or the control "
                'token of this tokenizer, {"control": NAME}, is expected.'
            )
    return ids


async def scripted(
    ids: Sequence[int], *, stop_ids: frozenset[int], max_tokens: int | None, prompt_tokens: int
) -> AsyncGenerator[Event, None]:
    """Yield the events of an engine that writes these ids."""
    said: list[int] = []
    for token in ids[:max_tokens]:
        said.append(token)
        if token in stop_ids:
            break
    has_stopped = bool(said) and said[-1] in stop_ids
    for place, token in enumerate(said):
        if place < len(said) - 1:
            yield Event(handle=0, ids=(token,))
    spent = Spent(
        prompt_tokens=prompt_tokens, cached_tokens=0, completion_tokens=len(said), queued_s=0.0,
        first_token_s=0.0, total_s=0.0,
    )  # fmt: skip
    reason = "stop" if has_stopped else "length"
    yield Event(handle=0, ids=tuple(said[-1:]), finish_reason=reason, spent=spent)
