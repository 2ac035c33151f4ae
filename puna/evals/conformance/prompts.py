"""The prompt vectors, put to one renderer.

Where a vector knows the exact text of the renderer's dialect, that text decides. Templates that
word their tools or dates in their own way are held to what every prompt must be (`shapes`), and so
are those whose dialect is only the frame.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from puna.evals.conformance.capabilities import Capabilities, facts, probe
from puna.evals.conformance.outcome import Outcome, Report, difference, judged, verdict
from puna.evals.conformance.renderers import Crash, Learner, Refusal, Renderer
from puna.evals.conformance.segments import from_json, joined
from puna.evals.conformance.shapes import (
    learned_misfit,
    misfit,
    opacity_misfit,
    padding_misfit,
    prefix_misfit,
)
from puna.evals.conformance.vectors import Vector, load, question

OWN_WORDING = "in its own wording"


def check_renderer(renderer: Renderer, *, subject: str, dialect: str | None = None) -> Report:
    """Put every prompt vector to a renderer.

    Args:
        subject: what the report calls it.
        dialect: hold it to the exact texts of this dialect; None finds out which it speaks.
    """
    found = probe(renderer, dialect=dialect)
    outcomes = check_prompts(renderer, found, is_exact=dialect is not None)
    return Report(subject=subject, facts=facts(found), outcomes=tuple(outcomes))


def check_prompts(renderer: Renderer, found: Capabilities, *, is_exact: bool) -> list[Outcome]:
    """Judge every vector of prompts and of injection."""
    vectors: Sequence[Vector] = [*load("prompts"), *load("injection")]
    return [_check(renderer, vector, found, is_exact=is_exact) for vector in vectors]


def _check(renderer: Renderer, vector: Vector, found: Capabilities, *, is_exact: bool) -> Outcome:
    if found.dialect == "none":
        return judged(vector, "skipped", "it does not speak the frame of Llama 3")
    if missing := found.lacks(vector.needs):
        return judged(vector, "skipped", missing)
    exact = vector.expect.get(found.dialect)
    loose = vector.expect.get("any")
    if exact is not None and not (exact.get("segments") and not renderer.knows_controls):
        exactly = _exact(renderer, vector, exact)
        is_worded = any(vector.input.get(key) for key in ("tools", "builtin_tools", "date"))
        if exactly.status != "failed" or is_exact or loose is None or not is_worded:
            return exactly
        loosely = _loose(renderer, vector, loose)
        if loosely.status == "passed":
            return judged(vector, "passed", OWN_WORDING)
        return loosely if exact.get("refused") else exactly
    if loose is not None:
        return _loose(renderer, vector, loose)
    return judged(vector, "skipped", f"it says nothing about the dialect {found.dialect!r}")


def _exact(renderer: Renderer, vector: Vector, exact: Mapping[str, Any]) -> Outcome:
    rendered = renderer.render(question(vector.input, date=exact.get("date")))
    if exact.get("refused"):
        if isinstance(rendered, Refusal):
            return judged(vector, "passed", f"refused: {rendered.reason}")
        return judged(vector, "failed", "it was rendered; a refusal is expected.")
    if isinstance(rendered, Refusal):
        return judged(vector, "refused", rendered.reason)
    if isinstance(rendered, Crash):
        return judged(vector, "failed", rendered.reason)
    if "segments" in exact:
        expected = from_json(exact["segments"])
        same_text = joined(expected) == joined(rendered)
        if same_text and expected != rendered:
            return judged(vector, "failed", "text of a message became a control token.")
        return verdict(vector, [difference(joined(expected), joined(rendered))])
    return verdict(vector, [difference(exact["text"], joined(rendered))])


def _loose(renderer: Renderer, vector: Vector, loose: Mapping[str, Any]) -> Outcome:
    asked = question(vector.input)
    rendered = renderer.render(asked)
    if isinstance(rendered, Refusal):
        return judged(vector, "refused", rendered.reason)
    if isinstance(rendered, Crash):
        return judged(vector, "failed", rendered.reason)
    if loose.get("opaque"):
        return verdict(vector, [opacity_misfit(renderer, asked)])
    if loose.get("pads_apart"):
        return verdict(vector, [padding_misfit(renderer)])
    if "learned" in loose:
        assert isinstance(renderer, Learner)  # the vector needs one
        return verdict(vector, [learned_misfit(renderer, asked, loose["learned"])])
    if "prefixes" in loose:
        return verdict(vector, [prefix_misfit(renderer, asked, loose["prefixes"])])
    return verdict(vector, [misfit(rendered, asked, loose)])
