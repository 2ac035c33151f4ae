"""Sums with numbers that training never saw, through the calculator: right call, right answer.

Three things can go wrong and are counted apart: the model does not call, it calls with other
numbers, or it misreads the result. The calculator is the real one, and what it answers is what the
model gets, right or wrong.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from puna.chat.messages import Message, ToolCall
from puna.data.heldout import held_out_number
from puna.errors import PunaError, RequestError
from puna.evals.reply import Reply
from puna.evals.score import Score, share
from puna.evals.sums import HeldOut, Sum, draw_sum

TOOL = "calculator"

_NUMBER = re.compile(r"-?\d+")
_EXAMPLES = 5  # wrong answers that are kept for the report


def arithmetic(
    reply: Reply,
    *,
    calculator: Callable[[str], str],
    n: int = 200,
    seed: int = 0,
    system: str | None = None,
    held_out: HeldOut = held_out_number,
) -> list[Score]:
    """Ask `n` sums and return the scores `arithmetic.call` and `arithmetic.answer`.

    Args:
        reply: answers many dialogs at once (`puna.evals.reply`).
        calculator: the tool itself, from text to text.
        system: the system message, where the model expects one.
    """
    rng = random.Random(f"arithmetic {seed}")
    sums = [draw_sum(rng, held_out, for_training=False) for _ in range(n)]
    begin = [] if system is None else [Message(role="system", content=system)]
    dialogs = [[*begin, Message(role="user", content=drawn.question)] for drawn in sums]
    calls = reply(dialogs, (TOOL,))
    right_calls = [_is_right_call(call, drawn) for call, drawn in zip(calls, sums, strict=True)]
    calling = [i for i, call in enumerate(calls) if len(call.tool_calls) == 1]
    for i in calling:
        dialogs[i] += [calls[i], _run(calls[i].tool_calls[0], calculator)]
    answers = list(calls)
    if calling:
        last = reply([dialogs[i] for i in calling], (TOOL,))
        for i, answer in zip(calling, last, strict=True):
            answers[i] = answer
    right_answers = [
        _says(answer, drawn.result) for answer, drawn in zip(answers, sums, strict=True)
    ]
    wrong = [
        {
            "question": drawn.question,
            "call": dict(call.tool_calls[0].arguments) if call.tool_calls else None,
            "answer": answer.content,
            "expected": drawn.result,
        }
        for drawn, call, answer, right in zip(sums, calls, answers, right_answers, strict=True)
        if not right
    ]
    return [
        share("arithmetic.call", sum(right_calls), n, _by_operator(sums, right_calls)),
        share(
            "arithmetic.answer",
            sum(right_answers),
            n,
            {**_by_operator(sums, right_answers), "wrong": wrong[:_EXAMPLES]},
        ),
    ]


def _is_right_call(message: Message, drawn: Sum) -> bool:
    """Whether the message asks the calculator for exactly this sum, spaces aside."""
    if len(message.tool_calls) != 1 or message.tool_calls[0].name != TOOL:
        return False
    query = message.tool_calls[0].arguments.get("query")
    return isinstance(query, str) and query.split() == drawn.expression.split()


def _run(call: ToolCall, calculator: Callable[[str], str]) -> Message:
    """Give the model what the tool answers; what it cannot compute is an answer too."""
    try:
        if call.name != TOOL:
            raise RequestError(f"tool: {call.name!r} was called; only {TOOL!r} is offered.")
        result = calculator(str(call.arguments.get("query", "")))
    except PunaError as error:
        result = str(error)
    return Message(role="tool", content=result, tool_call_id=call.id)


def _says(message: Message, result: int) -> bool:
    """Whether the last number of an answer in words is the result."""
    numbers = _NUMBER.findall(message.content.replace(",", ""))
    return not message.tool_calls and bool(numbers) and int(numbers[-1]) == result


def _by_operator(sums: Sequence[Sum], right: Sequence[bool]) -> Mapping[str, Any]:
    """Count right answers and questions of each operation."""
    counts: dict[str, dict[str, int]] = {}
    for drawn, is_right in zip(sums, right, strict=True):
        count = counts.setdefault(drawn.expression.split()[1], {"right": 0, "n": 0})
        count["right"] += is_right
        count["n"] += 1
    return {"by_operator": counts}
