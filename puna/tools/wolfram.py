"""Wolfram Alpha, as Llama 3.1 calls it: `wolfram_alpha.call(query="...")`.

With an AppID in the environment the service answers. Without one this machine computes what it
can, in the same JSON, and says what it cannot; nothing leaves the machine then.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from puna.errors import RequestError, StateError
from puna.tools.calculator import evaluate, write
from puna.tools.compute.answer import Pod, interpreted, result, shortened, to_json
from puna.tools.compute.process import TIMEOUT_S as COMPUTE_S
from puna.tools.compute.process import compute
from puna.tools.compute.question import in_signs, plain
from puna.tools.http_get import Answer, get
from puna.tools.query import PARAMETERS, answering
from puna.tools.tool import Tool

NAME = "wolfram_alpha"
TIMEOUT_S = 30.0  # the service itself stops at about 20
MAX_QUERY = 1000  # characters
MAX_PODS = 12

# Source: Wolfram|Alpha Full Results API reference, parameters appid, input, format and output.
WOLFRAM = "https://api.wolframalpha.com/v2/query"


def wolfram_alpha(
    *, address: str | None = None, environment: Mapping[str, str] = os.environ
) -> Tool:
    """Return the tool: the service where `WOLFRAM_ALPHA_APPID` is set, else this machine.

    Args:
        address: where the service is, instead of `PUNA_WOLFRAM_URL` or Wolfram's own address.
    """
    key = environment.get("WOLFRAM_ALPHA_APPID", "").strip()
    if key:
        service = address or environment.get("PUNA_WOLFRAM_URL") or WOLFRAM
        call = answering(NAME, lambda query: ask_service(query, key=key, address=service))
        what = "Answers questions of mathematics, science and facts."
    else:
        call = answering(NAME, compute_here)
        what = "Computes mathematics, units and dates."
    limit_s = TIMEOUT_S if key else COMPUTE_S
    return Tool(
        name=NAME,
        description=what,
        call=call,
        is_builtin=True,
        parameters=PARAMETERS,
        timeout=limit_s + 5.0,
    )


def compute_here(query: str) -> str:
    """Answer what can be computed without knowing facts.

    Raises:
        RequestError: the question is not understood or has no answer.
        StateError: it takes too long.
    """
    _check_length(query)
    return to_json(query, _sums(query) or compute(query))


def ask_service(query: str, *, key: str, address: str = WOLFRAM) -> str:
    """Answer from Wolfram Alpha.

    Raises:
        RequestError: the question is too long, or the service does not understand it.
        StateError: the service cannot be reached, refuses, or answers with something else.
    """
    query = " ".join(query.split())
    _check_length(query)
    parameters = {"appid": key, "input": query, "format": "plaintext", "output": "json"}
    answer = get(address, parameters, headers={"Accept": "application/json"}, timeout_s=TIMEOUT_S)
    pods = _service_pods(answer)
    if len(pods) > MAX_PODS:
        left_out = Pod(title="Left out", text=f"{len(pods) - MAX_PODS} more pieces")
        pods = [*pods[:MAX_PODS], left_out]
    return to_json(query, pods)


def _check_length(query: str) -> None:
    if len(query) > MAX_QUERY:
        raise RequestError(f"{len(query):,} characters given; at most {MAX_QUERY} are read.")


def _sums(query: str) -> list[Pod]:
    """Compute arithmetic at once, exactly; nothing where it is more than that."""
    formula = in_signs(plain(query))
    try:
        value = write(evaluate(formula))
    except RequestError:
        return []
    return [interpreted(formula), result(value)]


def _service_pods(answer: Answer) -> list[Pod]:
    """Read the service's JSON. Source: Full Results API reference, queryresult, pods, subpods."""
    if answer.status in (401, 403):
        raise StateError(f"the service refused the request or its AppID (HTTP {answer.status}).")
    if answer.status != 200:
        raise StateError(f"the service failed (HTTP {answer.status}); try again later.")
    try:
        found = json.loads(answer.text)["queryresult"]
        if found.get("error"):
            raise StateError("the service refused the request or its AppID.")
        if not found.get("success"):
            raise RequestError(f"the service does not understand the question.{_hints(found)}")
        return [pod for table in found["pods"] if (pod := _service_pod(table)).text]
    except (AttributeError, TypeError, KeyError, RecursionError, json.JSONDecodeError) as error:
        raise StateError("the service answered with something that is no result.") from error


def _service_pod(table: Mapping[str, Any]) -> Pod:
    texts = [str(one.get("plaintext") or "").strip() for one in table["subpods"]]
    return Pod(
        title=shortened(str(table["title"]), 100),
        text="\n".join(filter(None, texts)),
        is_primary=bool(table.get("primary")),
    )


def _hints(found: Mapping[str, Any]) -> str:
    """Return what the service would have understood instead."""
    means = found.get("didyoumeans") or []
    means = [means] if isinstance(means, Mapping) else means
    values = [str(one.get("val")) for one in means[:3] if one.get("val")]
    return f" It would understand: {shortened(', '.join(values), 300)}." if values else ""
