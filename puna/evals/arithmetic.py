"""Sums with numbers that training never saw, through a tool: right call, right answer.

Three things can go wrong and are counted apart: the model does not call, it calls with other
numbers, or it misreads the result. The calls run in the real tool loop, and what the tool answers
is what the model gets, right or wrong.
"""

import dataclasses
import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from puna.chat.declared import CODE_INTERPRETER
from puna.chat.messages import Message
from puna.data.heldout import held_out_number
from puna.evals.reply import Reply
from puna.evals.score import Score, share
from puna.evals.sums import HeldOut, Sum, draw_sum
from puna.tools.calculator import CALCULATOR
from puna.tools.loop import run_batch
from puna.tools.tool import Tool

STEPS = 2  # the call, and the answer that reads its result

_NUMBER = re.compile(r"-?\d+")
_EXAMPLES = 5  # wrong answers that are kept for the report


def arithmetic(
    reply: Reply,
    *,
    calculator: Tool | Callable[[str], str] = CALCULATOR,
    n: int = 200,
    seed: int = 0,
    system: str | None = None,
    held_out: HeldOut = held_out_number,
) -> list[Score]:
    """Ask `n` sums and return the scores `arithmetic.call` and `arithmetic.answer`.

    Args:
        reply: answers many dialogs at once (`puna.evals.reply`).
        calculator: the built-in tool that is offered: the calculator, another function from text to
            text in its place, or the code interpreter.
        system: the system message, where the model expects one.
    """
    rng = random.Random(f"arithmetic {seed}")
    sums = [draw_sum(rng, held_out, for_training=False) for _ in range(n)]
    begin = [] if system is None else [Message(role="system", content=system)]
    tool = calculator if isinstance(calculator, Tool) else _calculator(calculator)
    finished = run_batch(
        lambda dialogs: reply(dialogs, (tool.name,)),
        [[*begin, Message(role="user", content=drawn.question)] for drawn in sums],
        [tool],
        max_steps=STEPS,
    )
    answers = [turn.answer for turn in finished]
    calls = [turn.messages[len(begin) + 1] for turn in finished]  # what the model said first
    right_calls = [
        _is_right_call(call, drawn, tool) for call, drawn in zip(calls, sums, strict=True)
    ]
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


def _calculator(evaluate: Callable[[str], str]) -> Tool:
    """Put another function in the calculator's place."""
    return dataclasses.replace(
        CALCULATOR, call=lambda arguments: evaluate(str(arguments.get("query", "")))
    )


def _is_right_call(message: Message, drawn: Sum, tool: Tool) -> bool:
    """Whether the message asks the tool for exactly this sum, spaces aside.

    Code may do more with it than compute it (`print`), and may divide whole numbers as `//`.
    """
    if len(message.tool_calls) != 1 or message.tool_calls[0].name != tool.name:
        return False
    given = message.tool_calls[0].arguments
    if tool.name == CODE_INTERPRETER:
        asked = r"\s*".join(map(re.escape, drawn.expression.split())).replace("/", "//?")
        return re.search(rf"(?<![\w.]){asked}(?![\w.])", str(given.get("code"))) is not None
    query = given.get("query")
    return isinstance(query, str) and query.split() == drawn.expression.split()


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
