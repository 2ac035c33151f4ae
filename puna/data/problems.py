"""Kinds of mathematical problems: each draws numbers and writes a text with its claims.

`maths` chooses among `KINDS`, checks the claims and keeps reserved numbers out. An item names the
numbers of its question again as an expression, because a small model must learn to copy numbers
before it can hand them to a calculator.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One problem with its solution. Each claim is `left = right`, true in exact arithmetic."""

    kind: str
    text: str
    answer: str
    claims: tuple[str, ...]


def _number(rng: random.Random, digits: int = 4) -> int:
    """Draw a number whose length is uniform, so that short and long ones are equally frequent."""
    length = rng.randint(1, digits)
    return rng.randint(10 ** (length - 1) if length > 1 else 2, 10**length - 1)


def _decimal(value: Fraction) -> str:
    """Write a fraction that ends in base ten as a decimal."""
    text = f"{float(value):.6f}".rstrip("0").rstrip(".")
    assert Fraction(text) == value
    return text


def _asked(rng: random.Random, left: str, answer: str, phrases: tuple[str, ...]) -> Item:
    """A question in words, its numbers as an expression, and the answer."""
    question = rng.choice(phrases)
    shape = rng.choice(
        (
            "Question: {question}\nExpression: {left}\nAnswer: {answer}",
            "{question}\nWe compute {left} = {answer}. The answer is {answer}.",
            "Q: {question}\nA: {left} = {answer}",
            "{question} As an expression this is {left}, and {left} = {answer}.",
            "Problem: {question}\nTo compute: {left}\nResult: {answer}",
        )
    )
    text = shape.format(question=question, left=left, answer=answer)
    return Item(kind="", text=text, answer=answer, claims=(f"{left} = {answer}",))


def _addition(rng: random.Random) -> Item:
    a, b = _number(rng, 6), _number(rng, 6)
    return _asked(
        rng,
        f"{a} + {b}",
        str(a + b),
        (
            f"What is {a} plus {b}?",
            f"Add {a} and {b}.",
            f"What is the sum of {a} and {b}?",
            f"How much is {a} + {b}?",
            f"Calculate {a} + {b}.",
        ),
    )


def _subtraction(rng: random.Random) -> Item:
    a, b = _number(rng, 6), _number(rng, 6)
    if rng.random() < 0.8 and a < b:
        a, b = b, a
    return _asked(
        rng,
        f"{a} - {b}",
        str(a - b),
        (
            f"What is {a} minus {b}?",
            f"Subtract {b} from {a}.",
            f"What is the difference of {a} and {b}?",
            f"Take {b} away from {a}.",
            f"Calculate {a} - {b}.",
        ),
    )


def _multiplication(rng: random.Random) -> Item:
    a, b = _number(rng, 4), _number(rng, 3)
    if rng.random() < 0.5:
        a, b = b, a
    return _asked(
        rng,
        f"{a} * {b}",
        str(a * b),
        (
            f"What is {a} times {b}?",
            f"Multiply {a} by {b}.",
            f"What is the product of {a} and {b}?",
            f"How much is {a} * {b}?",
            f"Calculate {a} * {b}.",
        ),
    )


def _division(rng: random.Random) -> Item:
    a, b = _number(rng, 3), _number(rng, 3)
    return _asked(
        rng,
        f"{a * b} / {b}",
        str(a),
        (
            f"What is {a * b} divided by {b}?",
            f"Divide {a * b} by {b}.",
            f"How many times does {b} go into {a * b}?",
            f"Calculate {a * b} / {b}.",
        ),
    )


def _remainder(rng: random.Random) -> Item:
    q, b = _number(rng, 3), rng.randint(2, 40)
    r = rng.randint(1, b - 1)
    a = q * b + r
    text = (
        f"Divide {a} by {b} with remainder.\n{b} goes into {a} {q} times, since {q} * {b} = "
        f"{q * b}. What is left is {a} - {q * b} = {r}. So {a} = {q} * {b} + {r}, the quotient is "
        f"{q} and the remainder is {r}."
    )
    return Item(
        kind="",
        text=text,
        answer=str(r),
        claims=(f"{a} // {b} = {q}", f"{a} % {b} = {r}", f"{q} * {b} + {r} = {a}"),
    )


def _comparison(rng: random.Random) -> Item:
    a = _number(rng, 5)
    b = a + rng.choice((-1, 1)) * _number(rng, 3) if rng.random() < 0.5 else _number(rng, 5)
    if b < 1 or a == b:
        b = a + 1
    more, less = max(a, b), min(a, b)
    text = rng.choice(
        (
            f"Which is greater, {a} or {b}? {more} is greater than {less}: {more} > {less}.",
            f"Compare {a} and {b}. {less} < {more}, so the larger number is {more}.",
            f"Put {a} and {b} in order. The smaller is {less}, the larger is {more}.",
        )
    )
    return Item(kind="", text=text, answer=str(more), claims=(f"({more} > {less}) = 1",))


def _sequence(rng: random.Random) -> Item:
    start, step = _number(rng, 3), rng.randint(2, 15)
    terms = [start + step * i for i in range(6)]
    shown = ", ".join(map(str, terms[:5]))
    text = (
        f"Continue the sequence {shown}. Each number is {step} more than the one before it: "
        f"{terms[4]} + {step} = {terms[5]}. The next number is {terms[5]}."
    )
    claims = (f"{terms[4]} + {step} = {terms[5]}", f"{start} + 5 * {step} = {terms[5]}")
    return Item(kind="", text=text, answer=str(terms[5]), claims=claims)


def _fraction(rng: random.Random) -> Item:
    b, d = rng.randint(2, 12), rng.randint(2, 12)
    a, c = rng.randint(1, b), rng.randint(1, d)
    sign = rng.choice("+*")
    value = Fraction(a, b) + Fraction(c, d) if sign == "+" else Fraction(a, b) * Fraction(c, d)
    top = a * d + c * b if sign == "+" else a * c
    how = f"({a} * {d} + {c} * {b}) / ({b} * {d})" if sign == "+" else f"({a} * {c}) / ({b} * {d})"
    text = (
        f"Compute {a}/{b} {sign} {c}/{d}. {a}/{b} {sign} {c}/{d} = {how} = {top}/{b * d}. "
        f"In lowest terms this is {value}."
    )
    left = f"{a}/{b} {sign} {c}/{d}"
    return Item(
        kind="", text=text, answer=str(value), claims=(f"{left} = {value}", f"{how} = {value}")
    )


def _percentage(rng: random.Random) -> Item:
    percent, whole = rng.choice((5, 10, 15, 20, 25, 30, 40, 50, 60, 75, 80)), _number(rng, 4)
    part = _decimal(Fraction(percent * whole, 100))
    return _asked(
        rng,
        f"{percent} * {whole} / 100",
        part,
        (
            f"What is {percent} percent of {whole}?",
            f"Find {percent}% of {whole}.",
            f"A price is {whole}. How much is {percent} percent of it?",
        ),
    )


_UNITS = (
    ("kilometers", "meters", 1000),
    ("meters", "centimeters", 100),
    ("kilograms", "grams", 1000),
    ("hours", "minutes", 60),
    ("minutes", "seconds", 60),
    ("days", "hours", 24),
    ("weeks", "days", 7),
    ("dozens", "pieces", 12),
    ("liters", "milliliters", 1000),
    ("years", "months", 12),
)


def _conversion(rng: random.Random) -> Item:
    large, small, factor = rng.choice(_UNITS)
    n = _number(rng, 3)
    if rng.random() < 0.5:
        questions = (f"How many {small} are {n} {large}?", f"Convert {n} {large} to {small}.")
        return _asked(rng, f"{n} * {factor}", str(n * factor), questions)
    questions = (
        f"How many {large} are {n * factor} {small}?",
        f"Convert {n * factor} {small} to {large}.",
    )
    return _asked(rng, f"{n * factor} / {factor}", str(n), questions)


def _equation(rng: random.Random) -> Item:
    x, a, b = _number(rng, 2), rng.randint(2, 12), _number(rng, 3)
    c = a * x + b
    text = (
        f"Solve {a} * x + {b} = {c}. Subtract {b} on both sides: {a} * x = {c} - {b} = {a * x}. "
        f"Divide by {a}: x = {a * x} / {a} = {x}. Check: {a} * {x} + {b} = {c}."
    )
    return Item(
        kind="",
        text=text,
        answer=f"x = {a * x} / {a} = {x}",
        claims=(f"({c} - {b}) / {a} = {x}", f"{a} * {x} + {b} = {c}"),
    )


_NAMES_OF_PEOPLE = [
    "Ana",
    "Ben",
    "Carla",
    "David",
    "Elena",
    "Farid",
    "Grace",
    "Hugo",
    "Ines",
    "Jonas",
    "Kamala",
    "Luca",
    "Mei",
]
_THINGS = [
    "apples",
    "books",
    "cards",
    "coins",
    "eggs",
    "flowers",
    "marbles",
    "pencils",
    "stamps",
    "tickets",
]


def _story(rng: random.Random) -> Item:
    who, friend = rng.sample(_NAMES_OF_PEOPLE, 2)
    thing, a, b, c = rng.choice(_THINGS), _number(rng, 3), _number(rng, 3), rng.randint(2, 12)
    if a < b:
        a, b = b, a
    steps: tuple[str, ...]
    match rng.randrange(4):
        case 0:
            story = (
                f"{who} has {a} {thing}. {friend} gives {who} {b} more, and then {who} finds {c}."
            )
            steps, result = (f"{a} + {b} = {a + b}", f"{a + b} + {c} = {a + b + c}"), a + b + c
        case 1:
            story = f"{who} had {a} {thing} and gave {b} to {friend}."
            steps, result = (f"{a} - {b} = {a - b}",), a - b
        case 2:
            story = f"{who} buys {c} boxes with {b} {thing} each, and has {a} {thing} already."
            steps, result = (f"{c} * {b} = {c * b}", f"{c * b} + {a} = {c * b + a}"), c * b + a
        case _:
            story = f"{who} shares {b * c} {thing} equally among {c} friends and keeps none."
            steps, result = (f"{b * c} / {c} = {b}",), b
            text = f"{story} How many does each friend get? {steps[0]}. Each friend gets {b}."
            return Item(kind="", text=text, answer=str(b), claims=steps)
    text = (
        f"{story} How many {thing} does {who} have now? {'. '.join(steps)}. The answer is {result}."
    )
    return Item(kind="", text=text, answer=str(result), claims=steps)


def _copying(rng: random.Random) -> Item:
    """Numbers said again in the same order: what a call to a calculator needs."""
    a, b = _number(rng, 6), _number(rng, 6)
    sign, word = rng.choice((("+", "plus"), ("-", "minus"), ("*", "times"), ("/", "divided by")))
    expression = f"{a} {sign} {b}"
    text = rng.choice(
        (
            f"{a} {word} {b} is written {expression}. The numbers are {a} and {b}.",
            f"Write {a} {word} {b} as an expression: {expression}",
            f"The first number is {a}. The second number is {b}. {a} {word} {b}: {expression}",
            f"Read {expression} aloud: {a} {word} {b}.",
            f"Copy: {a}, {b}. Again: {a}, {b}.\nExpression: {expression}",
        )
    )
    return Item(kind="", text=text, answer=str(b), claims=(f"{expression} = {expression}",))


KINDS: Mapping[str, Callable[[random.Random], Item]] = {
    "addition": _addition,
    "comparison": _comparison,
    "conversion": _conversion,
    "copying": _copying,
    "division": _division,
    "equation": _equation,
    "fraction": _fraction,
    "multiplication": _multiplication,
    "percentage": _percentage,
    "remainder": _remainder,
    "sequence": _sequence,
    "story": _story,
    "subtraction": _subtraction,
}
