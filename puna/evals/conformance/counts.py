"""A server's prompts counted against the ids of puna's own renderer on the same tokenizer.

Where a server does not show its prompts, their lengths still tell: a second begin-of-text token is
one token more, in every dialog. The dialect is the one whose counts of two plain dialogs come
nearest.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from puna.evals.conformance.completions import Malformed
from puna.evals.conformance.outcome import Outcome, judged
from puna.evals.conformance.renderers import FormatRenderer, Refusal
from puna.evals.conformance.server_prompts import request_of
from puna.evals.conformance.session import Inconclusive, Refused, Session
from puna.evals.conformance.vectors import Vector, load, question

GROUP = "counts"
# Two dialogs that tell the dialects apart: by what they add, and by what they trim.
_TELLING = ("prompts.several-turns", "prompts.trailing-space")
_NEAR = 6  # tokens, by which the counts of the right dialect may be wrong in all
# The bug that a difference of this many tokens points to.
_HINTS = {1: " Is begin-of-text written twice?", -1: " Is begin-of-text missing?"}


def check_counts(session: Session, renderers: Mapping[str, FormatRenderer]) -> list[Outcome]:
    """Compare the server's count of every plain prompt with that of its dialect."""
    vectors = [vector for vector in load("prompts") if _is_plain(vector)]
    telling = [vector for vector in vectors if vector.id in _TELLING]
    dialect = _nearest(session, telling, renderers)
    return [_counted(session, vector, renderers, dialect) for vector in vectors]


def _is_plain(vector: Vector) -> bool:
    """Whether a server renders it in one way: no tools, no date, nothing that is not OpenAI's."""
    given = vector.input
    special = ("tools", "builtin_tools", "date", "options", "add_generation_prompt")
    kinds = {m["role"] for m in given["messages"]} <= {"system", "user", "assistant"}
    return kinds and not vector.needs and not any(key in given for key in special)


def _nearest(
    session: Session, vectors: Sequence[Vector], renderers: Mapping[str, FormatRenderer]
) -> str | None:
    try:
        given = [_server_count(session, vector) for vector in vectors]
    except (Malformed, Inconclusive, Refused):
        return None
    distances = {
        name: sum(
            abs((_own_count(renderer, v) or 0) - n) for v, n in zip(vectors, given, strict=True)
        )
        for name, renderer in renderers.items()
    }
    near = min(distances, key=lambda name: distances[name], default=None)
    return near if near is not None and distances[near] <= _NEAR else None


def _own_count(renderer: FormatRenderer, vector: Vector) -> int | None:
    ids = renderer.ids(question(vector.input))
    return None if isinstance(ids, Refusal) else len(ids)


def _server_count(session: Session, vector: Vector) -> int:
    body: dict[str, Any] = request_of(question(vector.input), session.model)
    asked = {"messages": body["messages"], "max_tokens": 1, "temperature": 0}
    wanted = Vector(
        id=vector.id, group=GROUP, pitfalls=("B1",), source=vector.source, says=vector.says,
        needs=(), input={"check": "counts", "optional": True}, expect={},
    )  # fmt: skip
    return session.prompt_tokens(wanted, asked)


def _counted(
    session: Session,
    vector: Vector,
    renderers: Mapping[str, FormatRenderer],
    dialect: str | None,
) -> Outcome:
    counted = Vector(
        id=f"{GROUP}.{vector.id.partition('.')[2]}", group=GROUP, pitfalls=("B1", "I9"),
        source=vector.source, says=vector.says, needs=(), input=vector.input, expect={},
    )  # fmt: skip
    if dialect is None:
        return judged(counted, "skipped", "no dialect of puna has prompts of these lengths")
    expected = _own_count(renderers[dialect], vector)
    if expected is None:
        return judged(counted, "skipped", f"the dialect {dialect!r} refuses it")
    try:
        given = _server_count(session, vector)
    except Malformed as error:
        return judged(counted, "failed", str(error))
    except Refused as error:  # such as a prompt beyond the context
        return judged(counted, "refused", str(error))
    except Inconclusive as error:
        return judged(counted, "skipped", str(error))
    if given != expected:
        hint = _HINTS.get(given - expected, "")
        return judged(
            counted, "failed", f"{given} tokens; {expected} in the dialect {dialect!r}.{hint}"
        )
    return judged(counted, "passed", f"in the dialect {dialect!r}")
