"""What holds for every prompt in the frame of Llama 3, whatever words a template puts round it.

A vector names the turns that must stand there; a template may add a system message, and messages
that describe tools. Texts are compared without the white space round them, because dialects differ
there; exact vectors hold that too.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from puna.chat.format import ChatFormat
from puna.evals.conformance.layout import Layout, Turn, read_layout
from puna.evals.conformance.outcome import difference
from puna.evals.conformance.renderers import Crash, Learner, Refusal, Renderer
from puna.evals.conformance.segments import NAMES, Segments, joined, merged, to_ids
from puna.evals.conformance.vectors import Question
from puna.tokenizer.ranks import RankTokenizer
from puna.tokenizer.specials import END_OF_MESSAGE, END_OF_TEXT, END_OF_TURN

BYTES = RankTokenizer([bytes([value]) for value in range(256)])  # every text has ids in it
_READER = ChatFormat(BYTES, "meta")

Expected = Mapping[str, Any]


def misfit(segments: Segments, asked: Question, expect: Expected) -> str | None:
    """Say how a prompt differs from what a vector names, or None."""
    layout = read_layout(segments)
    if layout.trouble:
        return layout.trouble
    if layout.begins > 1 or (expect.get("begins") and not layout.begins):
        return f"{layout.begins} begin-of-text tokens; one is expected."
    return (
        _reply_misfit(layout, asked)
        or _turns_misfit(layout, asked, expect.get("turns", ()))
        or _declared_misfit(segments, expect.get("declares", ()))
    )


def _reply_misfit(layout: Layout, asked: Question) -> str | None:
    if not layout.turns:
        return "the prompt has no messages."
    for turn in layout.turns[:-1]:
        if turn.end is None:
            return f"the message of {turn.role} has no terminator."
    last = layout.turns[-1]
    is_open = last.end is None
    if asked.reply and not (is_open and last.role == "assistant" and not last.body):
        return f"the prompt ends with {last.role} {joined(last.body)[-40:]!r}; the header of an \
answer is expected."
    if not asked.reply and is_open:
        return "the prompt ends with an open message though no answer was asked for."
    return None


def _turns_misfit(layout: Layout, asked: Question, expected: Sequence[Expected]) -> str | None:
    if not expected:
        return None
    given = [turn for turn in layout.turns if turn.end is not None]
    at = 0
    for number, wanted in enumerate(expected):
        troubles: list[str] = []
        while at < len(given) and (trouble := _turn_misfit(given[at], wanted)):
            troubles.append(trouble)
            if not _may_be_added(given[at], at, asked):
                return f"message {number}: {troubles[0]}"
            at += 1
        if at == len(given):
            why = troubles[0] if troubles else f"no message of {wanted['role']} stands there."
            return f"message {number}: {why}"
        at += 1
    if at < len(given):
        return f"a message of {given[at].role} follows that nobody wrote."
    return None


def _may_be_added(turn: Turn, place: int, asked: Question) -> bool:
    """Whether a template may write this turn of its own: a system message, or tools before all."""
    describes = bool(asked.tools) and place < 2 and turn.role in ("system", "user")
    return (turn.role == "system" and place == 0) or describes


def _turn_misfit(turn: Turn, wanted: Expected) -> str | None:
    if turn.role != wanted["role"]:
        return f"role {turn.role!r} given; {wanted['role']!r} is expected."
    body = joined(turn.body)
    ends = wanted.get("ends")
    calls = wanted.get("calls")
    allowed = ends if isinstance(ends, list) else [END_OF_TURN]
    if calls and not isinstance(ends, list):
        allowed = [END_OF_TURN, END_OF_MESSAGE]
    if turn.end not in allowed:
        return f"it ends with {turn.end}; {' or '.join(allowed)} is expected."
    if "text" in wanted and body.strip() != wanted["text"].strip():
        return difference(wanted["text"].strip(), body.strip())
    if isinstance(ends, str) and not body.rstrip().endswith(ends.strip()):
        return f"it ends with {body[-60:]!r}; {ends!r} is expected at its end."
    if "result" in wanted and body.strip() not in _encodings(wanted["result"]):
        return f"{body[:80]!r} given; {wanted['result'][:80]!r}, encoded at most once, is expected."
    for text in wanted.get("has", ()):
        if not any(option in body for option in ([text] if isinstance(text, str) else text)):
            return f"{text!r} is not in it."
    for text in wanted.get("lacks", ()):
        if text in body:
            return f"{text!r} is in it."
    return _calls_misfit(turn, calls) if calls else None


def _encodings(result: str) -> set[str]:
    """Return the ways in which a tool's text may be written: as it is, or as JSON once."""
    text = json.dumps(result, ensure_ascii=False)
    wrapped = json.dumps({"output": result}, ensure_ascii=False)
    return {result.strip(), text, json.dumps(result), wrapped, json.dumps({"output": result})}


def _calls_misfit(turn: Turn, expected: Sequence[Expected]) -> str | None:
    """Read a body back as an answer: the calls must be those that were written."""
    names = {call["name"] for call in expected}
    tools = [{"type": "function", "function": {"name": name}} for name in sorted(names)]
    message = _READER.parse(to_ids(BYTES, turn.body), tools)
    given = [(call.name, canonical(call.arguments)) for call in message.tool_calls]
    wanted = [(call["name"], canonical(call["arguments"])) for call in expected]
    if given != wanted:
        return f"{joined(turn.body)[:100]!r} is read back as {given}; {wanted} is expected."
    return _json_misfit(joined(turn.body))


def _json_misfit(body: str) -> str | None:
    """Say whether a call that looks like JSON is none: readers that forgive more are few."""
    at = body.find('{"name"')
    try:
        json.JSONDecoder().raw_decode(body[at:] if at >= 0 else "{}")
    except ValueError as error:
        return f"{body[at : at + 100]!r} is no JSON ({error})."
    return None


def canonical(arguments: Any) -> str:
    """Return JSON in which equal values are equal texts, and 1 is neither 1.0 nor true."""
    return json.dumps(arguments, sort_keys=True, ensure_ascii=False)


def _declared_misfit(segments: Segments, declared: Sequence[Sequence[str]]) -> str | None:
    text = joined(segments)
    for words in declared:
        for word in words:
            if word not in text:
                return f"{word!r} of the function {words[0]!r} is not in the prompt."
    return None


def padding_misfit(renderer: Renderer) -> str | None:
    """Say whether short rows are filled with a token that also ends an answer.

    The loss leaves padding out, and so a model would never learn to say that token.
    """
    if renderer.padding not in (END_OF_TURN, END_OF_MESSAGE, END_OF_TEXT):
        return None
    return f"{renderer.padding} fills short rows and ends answers; a token of its own is expected."


def learned_misfit(renderer: Learner, asked: Question, expected: Sequence[str]) -> str | None:
    """Say how the part that a model is trained to say differs from the assistant's messages."""
    learned = renderer.learned(asked)
    return (
        learned.reason if isinstance(learned, Refusal) else difference("".join(expected), learned)
    )


def prefix_misfit(renderer: Renderer, asked: Question, counts: Sequence[int]) -> str | None:
    """Say where a dialog up to a turn is not the beginning of the dialog beyond it."""
    before: str = ""
    for count in [*counts, len(asked.messages)]:
        rendered = renderer.render(replace(asked, messages=asked.messages[:count], reply=False))
        if isinstance(rendered, Refusal | Crash):
            return None  # it renders no such beginning; other vectors judge that
        text = joined(rendered)
        if not text.startswith(before):
            where = difference(before, text[: len(before)])
            return f"{count} messages do not begin as fewer of them do: {where}"
        before = text
    return None


def opacity_misfit(renderer: Renderer, asked: Question) -> str | None:
    """Say whether control tokens in messages change anything but the texts they stand in.

    The dialog is rendered again with words in place of the names. Putting the names back must give
    the first prompt: then no name became a control token, and the template did not look at them.
    """
    words = {name: f"qx{number}xq" for number, name in enumerate(sorted(NAMES | _FOREIGN))}
    safe = replace(
        asked,
        messages=_swapped(asked.messages, words),
        tools=_swapped(asked.tools, words),
    )
    first, second = renderer.render(asked), renderer.render(safe)
    for rendered in (first, second):
        if isinstance(rendered, Crash):
            return rendered.reason
        if isinstance(rendered, Refusal):
            return None
    assert not isinstance(first, Refusal | Crash) and not isinstance(second, Refusal | Crash)
    back = merged(_restored(part, words) if isinstance(part, str) else part for part in second)
    if renderer.knows_controls and first != back and joined(first) == joined(back):
        return "text of a message became a control token."
    where = difference(joined(back), joined(first))
    return where and f"names of control tokens change the prompt round them: {where}"


# Marks of other formats that templates look for in what was said.
_FOREIGN = frozenset(
    {"<think>", "</think>", "[TOOL_CALLS]", "<tool_call>", "</tool_call>", "<|im_end|>"}
)


def _swapped(value: Any, words: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for name, word in words.items():
            value = value.replace(name, word)
        return value
    if isinstance(value, Mapping):
        return {_swapped(key, words): _swapped(item, words) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_swapped(item, words) for item in value)
    return value


def _restored(text: str, words: Mapping[str, str]) -> str:
    for name, word in words.items():
        text = text.replace(word, name)
    return text
