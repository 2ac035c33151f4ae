"""What a renderer can do, found out by asking it: only the vectors that apply to it count.

Each capability is one small question and a look at the answer. The dialect is found the same way:
two plain dialogs and a search tell Meta's own encoder from the templates of Llama 3 and of
Llama 3.1.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date as Date
from typing import Any

from puna.evals.conformance.renderers import Crash, Learner, Refusal, Renderer, Rendering
from puna.evals.conformance.segments import joined
from puna.evals.conformance.vectors import Question
from puna.tokenizer.specials import END_OF_TURN, IMAGE, START_HEADER

YES, NO, REFUSES, BREAKS = "yes", "no", "refuses", "breaks"

DIALECTS: Mapping[str, str] = {
    "meta": "Meta's own encoder: texts as they are, nothing added",
    "hf": "Llama 3.1's published template: trimmed texts, two lines of dates",
    "hf3": "Llama 3's published template: trimmed texts, no dates",
    "frame": "the frame of Llama 3 with a wording of its own",
    "none": "no frame of Llama 3",
}

# A template for plain texts may break on these; on anything else it must answer or refuse.
OPTIONAL = frozenset({"parts", "images", "context"})

_DAY, _OTHER_DAY = Date(2024, 9, 21), Date(2031, 2, 3)
_WORD = "zanzibar"
_USER = {"role": "user", "content": "Hi"}
_PLAIN = ({"role": "system", "content": " Be brief."}, {"role": "user", "content": " Hi \n"})
_FUNCTION = {
    "type": "function",
    "function": {
        "name": _WORD,
        "description": "Does it.",
        "parameters": {"type": "object", "properties": {"a": {"type": "string"}}},
    },
}
_CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": _WORD, "arguments": {"a": "b"}}}
    ],
}
_SEARCH = (
    {"role": "system", "content": "Environment: ipython\nTools: brave_search"},
    _USER,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "brave_search", "arguments": {"query": "a"}},
            }
        ],
    },
)
_SEARCHES = '<|python_tag|>brave_search.call(query="a")<|eom_id|>'
_RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "quagga"}
_PARTS = [{"type": "text", "text": "quagga"}, {"type": "text", "text": " fur"}]
_IMAGE_PARTS = [{"type": "image"}, {"type": "text", "text": "Look."}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The dialect and what else was found out."""

    dialect: str
    answers: Mapping[str, str]  # capability: yes, no, refuses or breaks

    def lacks(self, needs: tuple[str, ...]) -> str | None:
        """Say what of `needs` is missing."""
        for need in needs:
            answer = self.answers.get(need, YES)
            if answer != YES and (answer != BREAKS or need in OPTIONAL):
                return f"{MEANINGS.get(need, need)}: {answer}"
        return None


# capability: (what it is, called so in the table; what is asked; whether the answer shows it)
_PROBES: Mapping[str, tuple[str, Question, Callable[[str], bool]]] = {
    "tools": ("functions", Question(messages=(_USER,), tools=(_FUNCTION,)), lambda t: _WORD in t),
    "tools_in_system": (
        "functions in the system message",
        Question(messages=(_USER,), tools=(_FUNCTION,), tools_in_user=False),
        lambda t: _WORD in t.partition(END_OF_TURN)[0],
    ),
    "builtin_tools": (
        "built-in tools",
        Question(messages=(_USER,), builtin_tools=("brave_search",)),
        lambda t: "brave_search" in t,
    ),
    "tool_results": (
        "results of tools",
        Question(messages=(_USER, _CALL, _RESULT)),
        lambda t: "quagga" in t and _WORD in t,
    ),
    "parts": (
        "texts in parts",
        Question(messages=({"role": "user", "content": _PARTS},)),
        lambda t: "quagga" in t and "'type'" not in t and '"type"' not in t,
    ),
    "images": (
        "images",
        Question(messages=({"role": "user", "content": _IMAGE_PARTS},)),
        lambda t: IMAGE in t,
    ),
    "context": (
        "retrieved context",
        Question(messages=(_USER | {"context": "quagga"},)),
        lambda t: "quagga" in t,
    ),
}

# capability: (what it is, two questions whose answers differ where it is there)
_PAIRS: Mapping[str, tuple[str, Question, Question]] = {
    "date": (
        "dates",
        Question(messages=(_USER,), date=_DAY),
        Question(messages=(_USER,), date=_OTHER_DAY),
    ),
    "no_reply": (
        "no header of an answer",
        Question(messages=(_USER,), reply=True),
        Question(messages=(_USER,), reply=False),
    ),
}

MEANINGS: Mapping[str, str] = {
    name: probe[0] for table in (_PROBES, _PAIRS) for name, probe in table.items()
} | {
    "controls": "control tokens told from texts",
    "padding": "the token for padding named",
    "mask": "the mask of the loss",
}


def probe(renderer: Renderer, *, dialect: str | None = None) -> Capabilities:
    """Ask a renderer what it can do; a dialect that is given is not looked for."""
    answers = {
        name: _shown(renderer.render(asked), shows)
        for name, (_, asked, shows) in _PROBES.items()
    }  # fmt: skip
    for name, (_, one, other) in _PAIRS.items():
        first, second = renderer.render(one), renderer.render(other)
        answers[name] = _shown(first, lambda _: True) if first != second else NO
    answers["controls"] = YES if renderer.knows_controls else NO
    answers["padding"] = YES if renderer.padding is not None else NO
    answers["mask"] = YES if isinstance(renderer, Learner) else NO
    return Capabilities(dialect=dialect or find_dialect(renderer), answers=answers)


def find_dialect(renderer: Renderer) -> str:
    """Say which of `DIALECTS` a renderer speaks."""
    dated = _text(renderer.render(Question(messages=_PLAIN, date=_DAY)))
    plain = _text(renderer.render(Question(messages=_PLAIN)))
    if dated == _framed("Cutting Knowledge Date: December 2023\nToday Date: 21 Sep 2024\n\n"):
        return "hf"
    if plain == _framed(""):
        return "hf3"
    search = _text(renderer.render(Question(messages=_SEARCH, reply=False)))
    if plain == _framed(" ", " Hi \n") and search.endswith(_SEARCHES):
        return "meta"
    shown = _text(renderer.render(Question(messages=(_USER,))))
    return "frame" if START_HEADER in shown else "none"


def _framed(before: str, question: str = "Hi") -> str:
    head, end = "<|start_header_id|>{}<|end_header_id|>\n\n", "<|eot_id|>"
    system = head.format("system") + f"{before}Be brief." + end
    return system + head.format("user") + question + end + head.format("assistant")


def _text(rendering: Rendering) -> str:
    """Return a prompt without the tokens that begin it: some templates leave them to others."""
    if isinstance(rendering, Refusal | Crash):
        return ""
    return joined(rendering).replace("<|begin_of_text|>", "")


def _shown(rendering: Rendering, shows: Callable[[str], bool]) -> str:
    if isinstance(rendering, Refusal):
        return REFUSES
    if isinstance(rendering, Crash):
        return BREAKS
    return YES if shows(joined(rendering)) else NO


def facts(found: Capabilities) -> dict[str, str]:
    """Return what was found as a table for people."""
    table: dict[str, Any] = {"dialect": f"{found.dialect} ({DIALECTS[found.dialect]})"}
    return table | {MEANINGS[name]: answer for name, answer in found.answers.items()}
