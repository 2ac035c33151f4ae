"""Arithmetic questions with exact answers, for training without held-out numbers and for testing.

`puna.posttrain` asks these while it teaches, `puna.evals.arithmetic` asks them of the model. The
same phrasings serve both; the numbers differ: training draws none that is held out, and the test
draws nothing else, so that no sum can be remembered.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

# A number counts as held out by puna.data.heldout.held_out_number; tests pass their own rule.
HeldOut = Callable[[int], bool]

# {a} and {b} are the numbers and {op} the sign; the tool is asked for "{a} {op} {b}".
COMMON_PHRASES = (
    "What is {a} {op} {b}?",
    "How much is {a} {op} {b}?",
    "Calculate {a} {op} {b}.",
    "{a} {op} {b} = ?",
    "{a} {op} {b}",
    "Was ist {a} {op} {b}?",
    "Combien font {a} {op} {b} ?",
    "Quanto fa {a} {op} {b}?",
    "Quanto é {a} {op} {b}?",
    "{a} {op} {b} कितना है?",
    "¿Cuánto es {a} {op} {b}?",
    "{a} {op} {b} เท่ากับเท่าไร",
)
PHRASES: dict[str, tuple[str, ...]] = {
    "+": ("What is {a} plus {b}?", "Add {a} and {b}.", "What is the sum of {a} and {b}?"),
    "-": ("What is {a} minus {b}?", "Take {a} and subtract {b}."),
    "*": ("What is {a} times {b}?", "Multiply {a} by {b}.", "What is the product of {a} and {b}?"),
    "/": ("What is {a} divided by {b}?", "Divide {a} by {b}."),
}

# The digits of an operand and how often each length is drawn; mostly two to four.
DIGITS = (1, 2, 3, 4, 5)
WEIGHTS = (2, 6, 6, 4, 2)

_TRIES = 10_000  # draws before giving up on a rule that leaves no number


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """One question, the expression a calculator is asked for, and the exact result."""

    question: str
    expression: str  # "12 * 34"
    result: int


def draw_sum(rng: random.Random, held_out: HeldOut, *, for_training: bool) -> Sum:
    """Draw a sum.

    For training neither an operand nor the result is held out. For testing both numbers of the
    question are, except where an operand of a division must follow from the other.
    """
    operator = rng.choice("+-*/")
    for _ in range(_TRIES):
        a, b, result = _operands(rng, operator, held_out, for_training=for_training)
        if for_training and any(held_out(abs(number)) for number in (a, b, result)):
            continue
        phrase = rng.choice(rng.choice((COMMON_PHRASES, PHRASES[operator])))
        question = phrase.format(a=a, b=b, op=operator)
        return Sum(question=question, expression=f"{a} {operator} {b}", result=result)
    raise ValueError("the rule for held-out numbers leaves none to draw")


def draw_number(rng: random.Random, held_out: HeldOut, *, for_training: bool, most: int = 5) -> int:
    """Draw a number of one to `most` digits on the right side of the held-out rule."""
    for _ in range(_TRIES):
        digits = rng.choices(DIGITS[:most], WEIGHTS[:most])[0]
        number = rng.randrange(10 ** (digits - 1), 10**digits)
        if held_out(number) != for_training:
            return number
    raise ValueError("the rule for held-out numbers leaves none to draw")


def _operands(
    rng: random.Random, operator: str, held_out: HeldOut, *, for_training: bool
) -> tuple[int, int, int]:
    """Draw two numbers and their exact result. Divisions come out even."""
    most = 5 if operator in "+-" else 3  # products stay within six digits
    a, b = (draw_number(rng, held_out, for_training=for_training, most=most) for _ in range(2))
    match operator:
        case "+":
            return a, b, a + b
        case "-":
            # Most differences are positive, as they are where people ask for them.
            large, small = (a, b) if a >= b or rng.random() < 0.15 else (b, a)
            return large, small, large - small
        case "*":
            return a, b, a * b
        case _:
            return a * b, b, a  # b is drawn by the rule; the dividend follows
