"""Equations, systems of them, and inequalities, solved exactly, or else by a numeric search."""

import math
import re
from collections.abc import Iterator, Sequence

import sympy
from sympy.core.relational import Relational
from sympy.functions.elementary.trigonometric import TrigonometricFunction
from sympy.logic.boolalg import BooleanAtom

from puna.errors import RequestError
from puna.tools.compute.answer import Pod, interpreted, result
from puna.tools.compute.symbolic import (
    Expression,
    approximate,
    read,
    unknowns,
    write_expression,
)

MAX_EQUATIONS = 8
MAX_SOLUTIONS = 30
EXACT_DEGREE = 4  # of polynomials that always have roots in radicals
_STARTS = range(-10, 11)  # where a numeric search begins
_LONG = 80  # characters; a root written longer says less than its decimals
_APART = re.compile(r"\s*(?:;|,|\band\b)\s*")


def solve(text: str, names: Sequence[str]) -> list[Pod]:
    """Solve what a text says, for the given unknowns or for all.

    Raises:
        RequestError: it holds no equation, or no solution is found.
    """
    relations = [_relation(part) for part in _APART.split(text) if part]
    if not 1 <= len(relations) <= MAX_EQUATIONS:
        raise RequestError(f"equations: {len(relations)} given; 1 to {MAX_EQUATIONS} are expected.")
    asked = interpreted(f"solve {text}")
    if any(relation in (sympy.true, sympy.false) for relation in relations):
        return [asked, result("no solution" if sympy.false in relations else "always true")]
    symbols = [sympy.Symbol(name) for name in names] or unknowns(relations)
    if not symbols:
        raise RequestError("equations: there is no unknown to solve for.")
    if all(isinstance(relation, sympy.Eq) for relation in relations):
        return [asked, *_solutions(relations, symbols)]
    if len(symbols) > 1:
        raise RequestError("equations: inequalities of one unknown alone are solved.")
    real = sympy.Symbol(symbols[0].name, real=True)
    found = sympy.reduce_inequalities([one.subs(symbols[0], real) for one in relations], real)
    return [asked, result(_condition(found))]


def _solutions(relations: list[Expression], symbols: list[Expression]) -> list[Pod]:
    chosen = symbols[:1] if len(relations) == 1 else symbols
    is_single = len(relations) == 1 and len(unknowns(relations)) == 1
    if is_single and (roots := _polynomial_roots(relations[0], chosen[0])):
        text = " or ".join(f"{chosen[0]} = {root}" for root in roots)
        return [result(text), Pod(title="Method", text="numeric; there are no simple exact roots")]
    try:
        found = sympy.solve(relations[0] if len(relations) == 1 else relations, chosen, dict=True)
    except NotImplementedError:
        found = []
    if not found and is_single and (roots := list(_numeric_roots(relations[0], chosen[0]))):
        text = " or ".join(f"{chosen[0]} = {root}" for root in roots)
        return [result(text), Pod(title="Method", text="numeric search; there may be more")]
    if not found:
        return [result("no solution was found")]
    return _written_solutions(found, is_periodic=any(map(_has_waves, relations)))


def _written_solutions(
    found: list[dict[Expression, Expression]], *, is_periodic: bool
) -> list[Pod]:
    lines = [
        ", ".join(f"{symbol} = {_root(value)}" for symbol, value in _in_order(one))
        for one in found[:MAX_SOLUTIONS]
    ]
    pods = [result(" or ".join(lines))]
    decimals = [
        f"{symbol} = {decimal}"
        for one in found[:MAX_SOLUTIONS]
        for symbol, value in _in_order(one)
        if len(write_expression(value)) <= _LONG and (decimal := approximate(value))
    ]
    if decimals:
        pods.append(Pod(title="Decimal approximation", text="; ".join(decimals)))
    if len(found) > MAX_SOLUTIONS:
        pods.append(Pod(title="Number of solutions", text=str(len(found))))
    if is_periodic:
        pods.append(Pod(title="Note", text="a periodic equation; one period of solutions"))
    return pods


def _has_waves(relation: Expression) -> bool:
    return bool(relation.has(TrigonometricFunction))


def _in_order(solution: dict[Expression, Expression]) -> list[tuple[Expression, Expression]]:
    return sorted(solution.items(), key=lambda pair: pair[0].name)


def _root(value: Expression) -> str:
    text = write_expression(value)
    return (approximate(value) or text) if len(text) > _LONG else text


def _polynomial_roots(equation: Expression, symbol: Expression) -> list[str]:
    """Return all roots of a polynomial that has no exact ones in radicals; else nothing."""
    function = equation.lhs - equation.rhs
    if not function.is_polynomial(symbol):
        return []
    polynomial = sympy.Poly(function, symbol)
    if not EXACT_DEGREE < polynomial.degree() <= MAX_SOLUTIONS:
        return []
    if sum(sympy.roots(polynomial).values()) == polynomial.degree():
        return []
    return [approximate(root) or write_expression(root) for root in polynomial.nroots(maxsteps=200)]


def _numeric_roots(equation: Expression, symbol: Expression) -> Iterator[str]:
    """Yield real roots that Newton's method finds from a few places, each once."""
    function = equation.lhs - equation.rhs
    seen: list[float] = []
    for start in _STARTS:
        try:
            root = sympy.nsolve(function, symbol, start)
        except (ValueError, TypeError, ZeroDivisionError):
            continue  # it leads nowhere from here
        text = approximate(root) if root.is_real else None
        if text and not any(math.isclose(float(root), one, abs_tol=1e-9) for one in seen):
            seen.append(float(root))
            yield text


def _relation(text: str) -> Expression:
    value = read(text)
    if isinstance(value, (Relational, BooleanAtom)):
        return value
    if isinstance(value, sympy.MatrixBase):
        raise RequestError(f"equations: '{text[:60]}' given; an equation is expected.")
    return sympy.Eq(value, 0)


def _written(relation: Expression) -> str:
    if not isinstance(relation, Relational):
        return str(relation)
    sign = "=" if relation.rel_op == "==" else relation.rel_op
    return f"{write_expression(relation.lhs)} {sign} {write_expression(relation.rhs)}"


def _condition(found: Expression) -> str:
    """Write what an unknown must be: `-2 < x and x < 2`."""
    if isinstance(found, (sympy.And, sympy.Or)):
        word = " and " if isinstance(found, sympy.And) else " or "
        parts = [_condition(part) for part in sorted(found.args, key=str)]
        parts = [part for part in parts if "infinity" not in part]
        return word.join(parts) or "every real number"
    if isinstance(found, Relational):
        return _written(found)
    return {sympy.true: "every real number", sympy.false: "no solution"}.get(found, str(found))
