"""The answer vectors, put to one parser: whole, a character at a time, and in pieces of any size.

Whatever the pieces, the message must be the same; that is what "streaming equals batch" means for
a parser.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from puna.evals.conformance.outcome import Outcome, Report, judged, verdict
from puna.evals.conformance.parsers import Parsed, Parser, Reply, Said
from puna.evals.conformance.renderers import Crash, Refusal
from puna.evals.conformance.segments import Segments, from_json
from puna.evals.conformance.shapes import canonical
from puna.evals.conformance.vectors import Vector, load

_PIECES = (2, 3, 5, 9)  # characters, of the pieces that are drawn at random
STREAMS = "streams"  # the group of verdicts on answers in pieces


def check_parser(parser: Parser, *, subject: str) -> Report:
    """Put every answer vector to a parser."""
    vectors = load("answers")
    asked: list[tuple[Vector, str, Said]] = []
    for vector in vectors:
        whole = said_of(vector)
        asked.append((vector, "whole", whole))
        for name, chunks in cuttings(vector.id, whole.answer):
            pieces = Said(
                id=f"{vector.id}/{name}",
                answer=whole.answer,
                chunks=chunks,
                tools=whole.tools,
                builtin_tools=whole.builtin_tools,
            )
            asked.append((vector, name, pieces))
    replies = parser.parse([said for _, _, said in asked])
    rows = [(v, name, reply) for (v, name, _), reply in zip(asked, replies, strict=True)]
    outcomes = [judge(vector, reply) for vector, name, reply in rows if name == "whole"]
    outcomes += [
        _streamed(vector, [(name, r) for v, name, r in rows if v is vector and name != "whole"])
        for vector in vectors
    ]
    return Report(subject=subject, outcomes=tuple(outcomes))


def said_of(vector: Vector) -> Said:
    """Return the question of an answer vector."""
    return Said(
        id=vector.id,
        answer=from_json(vector.input["answer"]),
        tools=tuple(vector.input.get("tools", ())),
        builtin_tools=tuple(vector.input.get("builtin_tools", ())),
    )


def cuttings(seed: str, answer: Segments) -> Iterable[tuple[str, tuple[Segments, ...]]]:
    """Yield ways to cut an answer: single characters, and pieces of sizes drawn from its id."""
    yield "characters", _cut(answer, lambda: 1)
    rng = random.Random(seed)
    yield "pieces", _cut(answer, lambda: rng.choice(_PIECES))


def _cut(answer: Segments, size: Callable[[], int]) -> tuple[Segments, ...]:
    chunks: list[Segments] = []
    for part in answer:
        if not isinstance(part, str):
            chunks.append((part,))
            continue
        at = 0
        while at < len(part):
            end = at + size()
            chunks.append((part[at:end],))
            at = end
    return tuple(chunks)


def judge(vector: Vector, reply: Reply) -> Outcome:
    """Compare a reply with what the vector expects."""
    if isinstance(reply, Refusal):
        return judged(vector, "refused", reply.reason)
    return verdict(vector, [_misfit(vector, reply)])


def _streamed(vector: Vector, replies: Sequence[tuple[str, Reply]]) -> Outcome:
    troubles = [
        f"in {name}: {trouble}"
        for name, reply in replies
        if not isinstance(reply, Refusal) and (trouble := _misfit(vector, reply))
    ]
    refusals = [reply.reason for _, reply in replies if isinstance(reply, Refusal)]
    if refusals and not troubles:
        return in_streams(judged(vector, "refused", refusals[0]))
    return in_streams(verdict(vector, troubles))


def in_streams(outcome: Outcome) -> Outcome:
    """Count a verdict among those on answers in pieces."""
    name = outcome.id.partition(".")[2]
    pitfalls = (*outcome.pitfalls, "T9")
    return replace(outcome, group=STREAMS, id=f"{STREAMS}.{name}", pitfalls=pitfalls)


def _misfit(vector: Vector, reply: Parsed | Crash) -> str | None:
    if isinstance(reply, Crash):
        return reply.reason
    wanted = [(c["name"], canonical(c["arguments"])) for c in vector.expect["tool_calls"]]
    given = [(name, canonical(arguments)) for name, arguments in reply.calls]
    if given != wanted:
        return f"the calls are {_calls(given)}; {_calls(wanted)} is expected."
    contents = _options(vector.expect["content"])
    if wanted:  # white space round a call says nothing
        is_right = reply.content.strip() in {text.strip() for text in contents}
    else:
        is_right = reply.content in contents
    if not is_right:
        return f"the content is {reply.content!r}; {' or '.join(map(repr, contents))} is expected."
    reasons = _options(vector.expect["finish_reason"])
    if reply.finish_reason not in reasons:
        return f"finish_reason is {reply.finish_reason!r}; {' or '.join(reasons)} is expected."
    return None


def _options(expected: str | list[str]) -> list[str]:
    return [expected] if isinstance(expected, str) else expected


def _calls(calls: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{name}({arguments})" for name, arguments in calls) or "none"
