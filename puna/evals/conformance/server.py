"""One server, asked everything that can be asked of it.

First what it is: its model, its context, whether it takes tools, shows its prompts, says what it is
told. Then the request vectors, and where it shows prompts or takes scripts, the vectors of those.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from puna.errors import RequestError, StateError
from puna.evals.conformance import behaviour, forms
from puna.evals.conformance.answers import check_parser
from puna.evals.conformance.capabilities import facts as prompt_facts
from puna.evals.conformance.capabilities import probe
from puna.evals.conformance.client import Client
from puna.evals.conformance.completions import Malformed
from puna.evals.conformance.counts import check_counts
from puna.evals.conformance.outcome import Outcome, Report, judged, verdict
from puna.evals.conformance.prompts import check_prompts
from puna.evals.conformance.renderers import FormatRenderer
from puna.evals.conformance.scripted import ScriptedServer
from puna.evals.conformance.server_prompts import find_prompts
from puna.evals.conformance.session import CHAT, Inconclusive, Refused, Session
from puna.evals.conformance.vectors import GROUPS, Vector, load

Check = Callable[[Session, Vector], str | None]

CHECKS: Mapping[str, Check] = {
    "models": forms.check_models,
    "shape": forms.check_shape,
    "error": forms.check_error,
    "key": forms.check_key,
    "survives": forms.check_survives,
    "same_prompt": behaviour.check_same_prompt,
    "grows_evenly": behaviour.check_grows_evenly,
    "begins_once": behaviour.check_begins_once,
    "text_stays_text": behaviour.check_text_stays_text,
    "stream": behaviour.check_stream,
    "done": behaviour.check_done,
    "stop": behaviour.check_stop,
    "same_answer": behaviour.check_same_answer,
    "together": behaviour.check_together,
    "too_long": behaviour.check_too_long,
    "leaks": behaviour.check_leaks,
}

_HELLO = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def check_server(
    client: Client,
    *,
    model: str | None = None,
    dialect: str | None = None,
    tokens: Mapping[str, FormatRenderer] | None = None,
    groups: Collection[str] = GROUPS,
    advance: Callable[[str], None] = lambda _: None,
) -> Report:
    """Put every vector to a server that can be put to one.

    Args:
        model: which of its models; None takes the first that it lists.
        dialect: hold its prompts to the exact texts of this dialect.
        tokens: renderers by dialect on the server's own tokenizer, to count prompts with.
        groups: of vectors; the others are left out.
        advance: told of every vector that is done.
    Raises:
        StateError: no server answers, or it does not answer at all as one of its kind does.
    """
    client.reach()
    session = open_session(client, model)
    takes_tools = client.post(CHAT, session.body({**_HELLO, "tools": [_TOOL]})).status == 200
    found: dict[str, str] = {
        "model": session.model,
        "context": f"{session.context:,} tokens" if session.context else "not told",
        "functions": "yes" if takes_tools else "refuses",
    }
    outcomes: list[Outcome] = []
    for vector in load("requests") if "requests" in groups else ():
        if "tools" in vector.needs and not takes_tools:
            outcomes.append(judged(vector, "skipped", "functions: refuses"))
        else:
            outcomes.append(_checked(session, vector))
        advance(vector.id)
    renderer, way = find_prompts(client, session.model)
    found["prompts shown"] = way
    if renderer is not None and {"prompts", "injection"} & set(groups):
        seen = probe(renderer, dialect=dialect)
        found |= {key: value for key, value in prompt_facts(seen).items() if key not in found}
        shown = check_prompts(renderer, seen, is_exact=dialect is not None)
        outcomes += [outcome for outcome in shown if outcome.group in groups]
    if tokens:
        outcomes += check_counts(session, tokens)
    script = ScriptedServer(client, session.model)
    found["scripted answers"] = "yes" if script.is_offered() else "no"
    if found["scripted answers"] == "yes" and "answers" in groups:
        outcomes += check_parser(script, subject="").outcomes
    return Report(subject=client.url, facts=found, outcomes=tuple(outcomes))


def _checked(session: Session, vector: Vector) -> Outcome:
    try:
        return verdict(vector, [CHECKS[vector.input["check"]](session, vector)])
    except Malformed as error:
        return judged(vector, "failed", str(error))
    except Refused as error:
        return judged(vector, "refused", str(error))
    except Inconclusive as error:
        return judged(vector, "skipped", str(error))


def open_session(client: Client, model: str | None) -> Session:
    """Choose the model and see that a plain request is answered."""
    body = client.get("/models").body
    listed = body.get("data") if isinstance(body, dict) else None
    models = [m for m in listed or () if isinstance(m, dict) and isinstance(m.get("id"), str)]
    if model is None:
        if not models:
            raise RequestError(
                f"{client.url}: it lists no models; one is expected. Name it with --model."
            )
        model = str(models[0]["id"])
    told = next((m for m in models if m["id"] == model), {})
    session = Session(client, model, context=_context(client, told))
    answer = client.post(CHAT, session.body(_HELLO))
    if answer.status != 200:
        raise StateError(
            f"{client.url}: a plain question to {model!r} gave {answer.says}; a chat completion "
            "is expected. Correct --url, --model or the key."
        )
    return session


def _context(client: Client, model: Mapping[str, Any]) -> int | None:
    """Return the context, as vLLM tells it with the model or llama.cpp among its properties."""
    if isinstance(model.get("max_model_len"), int):
        return int(model["max_model_len"])
    given = client.get_root("/props").body
    settings = given.get("default_generation_settings") if isinstance(given, dict) else None
    context = settings.get("n_ctx") if isinstance(settings, dict) else None
    return context if isinstance(context, int) else None
