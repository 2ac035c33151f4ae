"""What a server does: the same prompt for the same dialog, the same answer in a stream, its stops.

No check needs a particular model: each compares a server's answers with one another.
"""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

from puna.evals.conformance.completions import DONE, Completion, misfit
from puna.evals.conformance.forms import error_misfit
from puna.evals.conformance.outcome import difference
from puna.evals.conformance.segments import NAMES
from puna.evals.conformance.session import CHAT, Inconclusive, Session
from puna.evals.conformance.vectors import Vector
from puna.tokenizer.specials import END_OF_TURN

_RUNS = 12  # names of control tokens in a row
_LOOKALIKE = "<|eof_it|>"  # the letters of END_OF_TURN's name, and no control token
# A control token costs one token and its name as text several (7 in Llama 3's vocabulary), as does
# the lookalike; a quarter is room for vocabularies that know parts of one and not of the other.
_LEAST_SHARE = 0.75
_MOST_CONTEXT = 2**17  # longer ones are not filled


def check_same_prompt(session: Session, vector: Vector) -> str | None:
    """Bodies that say the same are prompts of the same length."""
    counts = [session.prompt_tokens(vector, body) for body in vector.input["bodies"]]
    return None if len(set(counts)) == 1 else f"{counts} tokens; equal numbers are expected."


def check_grows_evenly(session: Session, vector: Vector) -> str | None:
    """Each further turn adds the same number of tokens."""
    counts = [session.prompt_tokens(vector, body) for body in vector.input["bodies"]]
    steps = {after - before for before, after in pairwise(counts)}
    if len(steps) != 1 or min(steps) <= 0:
        return f"prompts of {counts} tokens; equal steps are expected."
    return None


def check_begins_once(session: Session, vector: Vector) -> str | None:
    """A text to be continued has one token more than its words: the one that begins it.

    The bodies hold a text once, twice and so on, so that the line through their lengths says what
    stands before the first.
    """
    counts = [session.prompt_tokens(vector, body) for body in vector.input["bodies"]]
    steps = {after - before for before, after in pairwise(counts)}
    if len(steps) != 1:
        raise Inconclusive(f"texts that grow evenly have {counts} tokens")
    before = counts[0] - steps.pop()
    if before == 1:
        return None
    return (
        f"{before} tokens stand before the text ({counts} tokens); one begin-of-text is expected."
    )


def check_text_stays_text(session: Session, vector: Vector) -> str | None:
    """The name of a control token costs what a text like it costs."""
    body = json.dumps(vector.input["body"])
    counts = {}
    for name, text in (("none", ""), ("control", END_OF_TURN), ("lookalike", _LOOKALIKE)):
        filled = json.loads(body.replace("{controls}", text * _RUNS))
        counts[name] = session.prompt_tokens(vector, filled)
    control, like = counts["control"] - counts["none"], counts["lookalike"] - counts["none"]
    if control < _LEAST_SHARE * like:
        return (
            f"{END_OF_TURN} written {_RUNS} times cost {control} tokens and {_LOOKALIKE} cost "
            f"{like}: it became a control token or was dropped."
        )
    return None


def check_stream(session: Session, vector: Vector) -> str | None:
    """A stream tells what one piece tells."""
    asks_usage = bool(vector.expect.get("usage"))
    body = vector.input["body"]
    plain = {key: value for key, value in body.items() if key != "stream_options"}
    whole = session.complete(vector, plain)
    streamed = session.stream(vector, body, asks_usage=asks_usage)
    if trouble := misfit(whole, streamed, what="the stream"):
        _require_steady(session, vector, plain, whole)
        return trouble
    if asks_usage:
        for key in ("prompt_tokens", "completion_tokens"):
            one, other = getattr(whole, key), getattr(streamed, key)
            if one != other:
                return f"{key} is {other} in the stream and {one} in one piece."
    if len(whole.choices[0].calls) < vector.expect.get("calls", 0):
        return "no call was made."
    return None


def _require_steady(
    session: Session, vector: Vector, body: Mapping[str, Any], before: Completion
) -> None:
    """Give up a comparison where the server does not even repeat itself."""
    if misfit(before, session.complete(vector, body), what="the repeat"):
        raise Inconclusive("the server answers differently each time at temperature 0")


def check_done(session: Session, vector: Vector) -> str | None:
    """A stream says where it ends."""
    events = session.client.stream(CHAT, session.body(vector.input["body"])).events
    if events[-1:] != (DONE,):
        return f"the stream ends with {(events[-1:] or ('nothing',))[0][:60]!r} and not {DONE}."
    return None


def check_stop(session: Session, vector: Vector) -> str | None:
    """An answer ends before the text that stops it."""
    body = vector.input["body"]
    before = session.complete(vector, body)
    whole = before.choices[0].content
    stop = _piece_of(whole)
    asked = {**body, "stop": ["never \u2603 said", stop] if vector.input.get("many") else stop}
    ask = session.stream if vector.input.get("stream") else session.complete
    choice = ask(vector, asked).choices[0]
    if trouble := difference(whole[: whole.index(stop)], choice.content):
        _require_steady(session, vector, body, before)
        return f"stopped at {stop!r}: {trouble}"
    if choice.finish_reason != "stop":
        return f"finish_reason is {choice.finish_reason!r} where a stop text ended the answer."
    return None


def _piece_of(text: str) -> str:
    """Return three characters of the middle: they often lie across two tokens."""
    for at in range(len(text) // 2, len(text) - 2):
        piece = text[at : at + 3]
        if piece.isprintable() and piece.strip() and "\N{REPLACEMENT CHARACTER}" not in piece:
            return piece
    raise Inconclusive(f"the model's answer {text[:40]!r} has no text to stop at")


def check_same_answer(session: Session, vector: Vector) -> str | None:
    """Two requests have one answer."""
    first, second = (session.complete(vector, body) for body in vector.input["bodies"])
    return misfit(first, second, what="the repeat")


def check_together(session: Session, vector: Vector) -> str | None:
    """Requests at the same time do not change one another's answers."""
    body = vector.input["body"]
    alone = session.complete(vector, body)
    bodies = [*vector.input["others"], body, body]
    with ThreadPoolExecutor(len(bodies)) as pool:
        done = list(pool.map(lambda each: session.complete(vector, each), bodies))
    for beside in done[-2:]:
        if trouble := misfit(alone, beside, what="the one beside others"):
            _require_steady(session, vector, body, alone)
            return trouble
    return None


def check_too_long(session: Session, vector: Vector) -> str | None:
    """A prompt beyond the context is an error of the request."""
    if session.context is None:
        raise Inconclusive("the server does not tell its context (max_model_len or n_ctx)")
    if session.context > _MOST_CONTEXT:
        raise Inconclusive(f"a context of {session.context} tokens is too long to be filled here")
    text = "a " * (session.context + 8)
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 1}
    return error_misfit(session.client.post(CHAT, session.body(body)), vector)


def check_leaks(session: Session, vector: Vector) -> str | None:
    """No answer so far shows the name of a control token."""
    for text in session.said:
        for name in NAMES:
            if name in text:
                at = text.index(name)
                return f"an answer holds {name}: {text[max(0, at - 60) : at + 60]!r}"
    return None
