"""Mathematics with checkable answers, generated: the third seed source.

Every item is a short text with the claims it makes ("12 * 34 = 408"), and `check` computes each
claim again in exact fractions. Training items hold no number that `heldout.held_out_number`
reserves; held-out items hold at least one. `problems` writes the items.
"""

import ast
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction

from puna.data.document import Document
from puna.data.heldout import mentions_held_out
from puna.data.problems import KINDS, Item

_ITEMS_PER_DOCUMENT = 12

# Copying and the four operations are drawn more often than the rest.
_NAMES = (*KINDS, "copying", "copying", "addition", "subtraction", "multiplication", "division")


def check(item: Item) -> bool:
    """Whether every claim holds and the answer stands in the text."""
    return item.answer in item.text and all(_holds(claim) for claim in item.claims)


def generate_item(rng: random.Random, *, held_out: bool = False) -> Item:
    """Draw one item: without reserved numbers, or with at least one where `held_out`."""
    kind = rng.choice(_NAMES)
    while True:
        item = KINDS[kind](rng)
        if mentions_held_out(item.text) is held_out:
            return replace(item, kind=kind)


def maths_document(index: int, *, seed: int, held_out: bool = False) -> Document:
    """Generate the document number `index` of a seed; it depends on nothing else."""
    side = "heldout" if held_out else "train"
    rng = random.Random(f"maths/{seed}/{side}/{index}")
    items = [generate_item(rng, held_out=held_out) for _ in range(_ITEMS_PER_DOCUMENT)]
    return Document(
        text="\n\n".join(item.text for item in items) + "\n",
        id=f"maths/{side}/{index:06d}",
        source="maths",
        language="en",
    )


def _holds(claim: str) -> bool:
    left, right = claim.split(" = ")
    return _value(ast.parse(left, mode="eval").body) == _value(ast.parse(right, mode="eval").body)


def _value(node: ast.expr) -> Fraction:
    """Compute an expression of integers, decimals, + - * / // % and comparisons, exactly."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return Fraction(str(number))
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner)
        case ast.BinOp(left=left, op=operator, right=right):
            return _OPERATORS[type(operator)](_value(left), _value(right))
        case ast.Compare(left=left, ops=[ast.Gt()], comparators=[right]):
            return Fraction(_value(left) > _value(right))
        case _:
            raise AssertionError(f"{ast.unparse(node)}: a claim holds arithmetic only")


_OPERATORS: Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: Fraction(a // b),
    ast.Mod: lambda a, b: a % b,
}
