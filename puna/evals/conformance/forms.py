"""The form of a server's answers: of completions, of calls, of errors.

Each check takes a session and a vector and says what is wrong, or None.
"""

import json
from collections.abc import Mapping
from typing import Any

from puna.evals.conformance.client import Answer, Client
from puna.evals.conformance.completions import Choice, Completion, read_completion
from puna.evals.conformance.session import CHAT, Inconclusive, Session
from puna.evals.conformance.vectors import Vector


def check_models(session: Session, vector: Vector) -> str | None:
    """The list of models has its form and names the model."""
    answer = session.client.get("/models")
    body = answer.body if isinstance(answer.body, dict) else {}
    listed = body.get("data")
    if answer.status != 200 or body.get("object") != "list" or not isinstance(listed, list):
        return f"{answer.says}; a list of models is expected."
    ids = [model.get("id") for model in listed if isinstance(model, dict)]
    return None if session.model in ids else f"{session.model!r} is not among {ids}."


def check_shape(session: Session, vector: Vector) -> str | None:
    """A completion has its form, and what the vector expects of it."""
    expect = vector.expect
    done = session.complete(vector, vector.input["body"])
    choice = done.choices[0]
    if len(done.choices) != expect.get("choices", 1):
        return f"{len(done.choices)} choices; {expect.get('choices', 1)} expected."
    if done.prompt_tokens is None:
        return "there is no usage."
    if done.prompt_tokens == 0:
        return "the prompt has 0 tokens; at least the header of the answer is one."
    reasons = expect.get("finish_reason")
    if reasons and choice.finish_reason not in reasons:
        return f"finish_reason is {choice.finish_reason!r}; {' or '.join(reasons)} is expected."
    return (
        _limit_misfit(done, expect)
        or _calls_misfit(choice, vector)
        or _json_misfit(choice, expect)
        or _logprobs_misfit(done, expect)
    )


def _limit_misfit(done: Completion, expect: Mapping[str, Any]) -> str | None:
    limit, written = expect.get("max_completion_tokens"), done.completion_tokens or 0
    if limit is None:
        return None
    if written > limit:
        return f"{written} tokens were written; {limit} were allowed."
    if done.choices[0].finish_reason == "length" and written < limit:
        return f"finish_reason is 'length' after {written} tokens; {limit} were allowed."
    return None


def _calls_misfit(choice: Choice, vector: Vector) -> str | None:
    expect, body = vector.expect, vector.input["body"]
    declared = {tool["function"]["name"] for tool in body.get("tools") or ()}
    for name, _ in choice.calls:
        if name not in declared:
            return f"{name!r} was called; declared are {', '.join(sorted(declared)) or 'none'}."
    if bool(choice.calls) and choice.finish_reason == "length":
        return "finish_reason is 'length', yet calls were given: they may have been cut off."
    if choice.calls and "finish_reason" not in expect and choice.finish_reason != "tool_calls":
        return f"calls were given and finish_reason is {choice.finish_reason!r}."
    if choice.finish_reason == "tool_calls" and not choice.calls and declared:
        return "finish_reason is 'tool_calls' and there are no calls."
    least, most = expect.get("calls", (0, len(declared) * 99))
    if not least <= len(choice.calls) <= most:
        return f"{len(choice.calls)} calls; {least} to {most} are expected."
    wanted = expect.get("arguments")
    for name, arguments in choice.calls:
        if "names" in expect and name not in expect["names"]:
            return f"{name!r} was called; {' or '.join(expect['names'])} is expected."
        if wanted:
            found = json.loads(arguments)
            inner = {key: found.get(key) for key in wanted["inner"]}
            keys = {k: sorted(v) for k, v in inner.items() if isinstance(v, dict)}
            if sorted(found) != wanted["keys"] or keys != wanted["inner"]:
                return f"the arguments are {arguments[:120]}; the schema demands others."
    return None


def _json_misfit(choice: Choice, expect: Mapping[str, Any]) -> str | None:
    if "json" not in expect:
        return None
    if choice.finish_reason == "length":
        raise Inconclusive("the answer was longer than the limit")
    try:
        found = json.loads(choice.content)
    except ValueError:
        return f"{choice.content[:100]!r} is no JSON."
    if not isinstance(found, dict):
        return f"{choice.content[:100]!r} is no JSON object."
    if expect["json"] and sorted(found) != expect["json"]:
        return f"the keys are {sorted(found)}; {expect['json']} are expected."
    return None


def _logprobs_misfit(done: Completion, expect: Mapping[str, Any]) -> str | None:
    most = expect.get("logprobs")
    if most is None:
        return None
    given = done.choices[0].logprobs
    listed = given.get("content") if isinstance(given, dict) else None
    if not isinstance(listed, list) or not listed:
        return f"logprobs is {str(given)[:80]}; an object with a list content is expected."
    for entry in listed:
        value = entry.get("logprob") if isinstance(entry, dict) else None
        if not isinstance(value, int | float) or value > 1e-6 or "token" not in entry:
            return f"an entry is {str(entry)[:100]}; a token and its log-probability are expected."
        top = entry.get("top_logprobs")
        if not isinstance(top, list) or len(top) > most:
            return f"top_logprobs is {str(top)[:80]}; at most {most} are expected."
        if top and value < max(other["logprob"] for other in top) - 1e-3:
            return f"at temperature 0 {entry['token']!r} was taken, and another is likelier."
    written = done.completion_tokens or 0
    if not written - 1 <= len(listed) <= written:  # the terminator may be left out
        return f"{len(listed)} entries for {written} tokens."
    return None


def check_error(session: Session, vector: Vector) -> str | None:
    """A wrong request is answered by an error of the right status and form."""
    path = vector.input["path"]
    given = vector.input.get("raw")
    answer = session.client.post(path, given or session.body(vector.input["body"]))
    return error_misfit(answer, vector)


def error_misfit(answer: Answer, vector: Vector) -> str | None:
    """Say how an answer is not the error that a vector expects."""
    allowed = vector.expect["status"]
    if answer.status not in allowed:
        return f"{answer.says}; status {' or '.join(map(str, allowed))} is expected."
    if not answer.has_error_form:
        return f'{answer.says}; {{"error": {{"message": ...}}}} is expected.'
    return None


def check_key(session: Session, vector: Vector) -> str | None:
    """A key that is not the given one is refused."""
    if not session.client.key:
        raise Inconclusive("no key was given")
    known = session.client
    stranger = Client(known.url, key="no-such-key", timeout_s=known.timeout_s)
    answer = stranger.post(CHAT, session.body(vector.input["body"]))
    return error_misfit(answer, vector)


def check_survives(session: Session, vector: Vector) -> str | None:
    """A doubtful request is answered or refused, and breaks nothing."""
    answer = session.client.post(CHAT, session.body(vector.input["body"]))
    if answer.status == 200:
        read_completion(answer)
        return None
    if not 400 <= answer.status < 500:
        return f"{answer.says}; an answer or an error of the request is expected."
    return None if answer.has_error_form else f"{answer.says}; OpenAI's form of errors is expected."
