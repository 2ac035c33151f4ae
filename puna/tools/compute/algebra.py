"""Algebra and calculus in words: derivatives, integrals, limits, sums, matrices.

A request is recognised by its words; what remains are formulas. sympy computes, `equations` solves.
"""

import re
from collections.abc import Callable, Mapping

import sympy
from sympy.core.relational import Relational
from sympy.logic.boolalg import BooleanAtom

from puna.errors import RequestError
from puna.tools.compute.answer import Pod, interpreted, result
from puna.tools.compute.equations import solve
from puna.tools.compute.symbolic import (
    Expression,
    read,
    unknowns,
    value_pods,
    write_expression,
)

_Given = Mapping[str, str]
_ORDERS = {"": 1, "first": 1, "second": 2, "2nd": 2, "third": 3, "3rd": 3, "fourth": 4, "4th": 4}
_BY = r"(?: (?:with respect to|wrt|by|for|in) (?P<by>[a-z]))?"
_MAX_SERIES = 20


def answer(question: str) -> list[Pod] | None:
    """Answer a request for algebra, or return None where it is none."""
    for pattern, compute in _REQUESTS.items():
        if match := re.fullmatch(pattern, question, re.IGNORECASE):
            return compute({name: value or "" for name, value in match.groupdict().items()})
    return None


def _differentiate(given: _Given) -> list[Pod]:
    value = _expression(given["formula"])
    variable, order = _variable(value, given["by"]), _ORDERS[given["order"].lower()]
    found = sympy.diff(value, variable, order)
    power = f"^{order}" if order > 1 else ""
    asked = f"d{power}/d{variable}{power} ({write_expression(value)})"
    return [interpreted(asked), *value_pods(sympy.simplify(found))]


def _integrate(given: _Given) -> list[Pod]:
    value = _expression(given["formula"])
    variable = _variable(value, given["d"] or given["by"])
    if given["low"]:
        low, high = _expression(given["low"]), _expression(given["high"])
        found = sympy.integrate(value, (variable, low, high))
        limits = f" from {write_expression(low)} to {write_expression(high)}"
    else:
        found, limits = sympy.integrate(value, variable), ""
    pods = [interpreted(f"integral of {write_expression(value)} d{variable}{limits}")]
    if found.has(sympy.Integral):
        number = found.evalf() if not found.free_symbols else found
        if number.has(sympy.Integral):
            raise RequestError("algebra: no closed form of this integral was found.")
        return [*pods, *value_pods(number)]
    exact = value_pods(sympy.simplify(found))
    if not given["low"]:
        exact[0] = result(f"{exact[0].text} + constant")
        return [*pods, exact[0]]
    return [*pods, *exact]


def _limit(given: _Given) -> list[Pod]:
    value, point = _expression(given["formula"]), _expression(given["point"])
    variable = sympy.Symbol(given["by"])
    side = {"left": "-", "right": "+"}.get(given["side"].lower(), "+-")
    if abs(point) == sympy.oo:
        side = "+"
    try:
        found = sympy.limit(value, variable, point, side)
    except (ValueError, NotImplementedError) as error:
        raise RequestError("algebra: the limit does not exist, or was not found.") from error
    asked = f"limit of {write_expression(value)} as {variable} -> {write_expression(point)}"
    return [interpreted(asked), *value_pods(found)]


def _sum(given: _Given) -> list[Pod]:
    value, variable = _expression(given["formula"]), sympy.Symbol(given["by"])
    low, high = _expression(given["low"]), _expression(given["high"])
    is_product = given["what"].lower().startswith("product")
    found = (sympy.product if is_product else sympy.summation)(value, (variable, low, high))
    if found.has(sympy.Sum, sympy.Product) and found.is_number:
        found = found.evalf()
    what = "product" if is_product else "sum"
    bounds = f"{variable} = {write_expression(low)} to {write_expression(high)}"
    return [
        interpreted(f"{what} of {write_expression(value)} for {bounds}"),
        *value_pods(sympy.simplify(found)),
    ]


def _series(given: _Given) -> list[Pod]:
    value = _expression(given["formula"])
    variable = _variable(value, given["by"])
    point = _expression(given["point"] or "0")
    order = int(given["order"] or 6)
    if not 1 <= order <= _MAX_SERIES:
        raise RequestError(f"algebra: an order of {order} given; 1 to {_MAX_SERIES} is expected.")
    found = sympy.series(value, variable, point, order)
    asked = f"series of {write_expression(value)} at {variable} = {write_expression(point)}"
    return [interpreted(asked), result(write_expression(found))]


def _rewrite(given: _Given) -> list[Pod]:
    name, value = given["what"].lower(), _expression(given["formula"])
    rewrite: Mapping[str, Callable[[Expression], Expression]] = {
        "simplify": sympy.simplify,
        "expand": sympy.expand,
        "factor": sympy.factor,
        "partial fractions of": sympy.apart,
    }
    name = "factor" if name.startswith("factor") else name
    return [interpreted(f"{name} {write_expression(value)}"), *value_pods(rewrite[name](value))]


def _matrix(given: _Given) -> list[Pod]:
    name, value = given["what"].lower(), read(given["formula"])
    if not isinstance(value, sympy.MatrixBase):
        raise RequestError("algebra: a matrix like {{1, 2}, {3, 4}} is expected.")
    asked = interpreted(f"{name} of {write_expression(value)}")
    if name == "transpose":
        return [asked, *value_pods(value.T)]
    if name == "rank":
        return [asked, result(str(value.rank()))]
    if value.rows != value.cols:
        raise RequestError(
            f"algebra: a matrix of {value.rows} rows and {value.cols} columns given; a square one "
            "is expected."
        )
    if name in ("determinant", "det"):
        return [asked, *value_pods(sympy.simplify(value.det()))]
    if name == "trace":
        return [asked, *value_pods(value.trace())]
    if name == "inverse":
        if sympy.simplify(value.det()) == 0:
            raise RequestError("algebra: the determinant is 0, so the matrix has no inverse.")
        return [asked, *value_pods(value.inv())]
    found = value.eigenvals()
    listed = (
        write_expression(root) + (f" ({times} times)" if times > 1 else "")
        for root, times in sorted(found.items(), key=lambda pair: str(pair[0]))
    )
    return [asked, result(", ".join(listed))]


def _expression(text: str) -> Expression:
    value = read(text)
    if isinstance(value, (sympy.MatrixBase, Relational, BooleanAtom)):
        raise RequestError(f"algebra: '{text[:60]}' given; a formula is expected.")
    return value


def _variable(value: Expression, given: str) -> Expression:
    found = unknowns([value])
    if given:
        return next((one for one in found if one.name == given), sympy.Symbol(given))
    return found[0] if found else sympy.Symbol("x")


def _solve(given: _Given) -> list[Pod]:
    return solve(given["formula"], re.findall(r"[a-z]", given["by"].replace("and", "")))


_REQUESTS: Mapping[str, Callable[[_Given], list[Pod]]] = {
    r"(?:solve|solutions? (?:of|to|for)|roots? of|zeros? of)"
    r"(?: the)?(?: system| equations?| inequality)*(?: of)?:? (?P<formula>.+?)"
    r"(?: for (?P<by>[a-z](?:(?:, ?| and |, and )[a-z])*))?": _solve,
    r"(?:(?P<order>first|second|third|fourth|2nd|3rd|4th) )?"
    rf"(?:differentiate|derivative of|derivative) (?P<formula>.+?){_BY}": _differentiate,
    r"d ?/ ?d(?P<by>[a-z]) (?P<order>)(?P<formula>.+)": _differentiate,
    r"(?:integrate|(?:definite |indefinite )?integral(?: of)?|∫) (?P<formula>.+?)"
    rf"(?: ?d(?P<d>[a-z]))?{_BY}"
    r"(?: from (?:[a-z] ?= ?)?(?P<low>.+?) to (?P<high>.+?))?(?: d[a-z])?": _integrate,
    r"(?:limit|lim)(?: of)? (?P<formula>.+?) (?:as|when) (?P<by>[a-z]) ?"
    r"(?:->|→|approaches|goes to|tends to|to) ?(?P<point>.+?)"
    r"(?: from the (?P<side>left|right))?": _limit,
    r"(?P<what>sum|product)(?: of)? (?P<formula>.+?),? (?:from|for|over) (?P<by>[a-z]) ?"
    r"(?:=|from) ?(?P<low>.+?) to (?P<high>.+)": _sum,
    r"(?:taylor |maclaurin |power )?series(?: expansion)?(?: of)? (?P<formula>.+?)"
    r"(?: (?:at|around|about) (?:(?P<by>[a-z]) ?= ?)?(?P<point>.+?))?"
    r"(?: (?:to|of) order (?P<order>\d{1,3}))?": _series,
    r"(?P<what>simplify|expand|factor|factori[sz]e|partial fractions of) (?P<formula>.+)": _rewrite,
    r"(?P<what>determinant|det|inverse|eigenvalues|rank|trace|transpose)(?: of)?(?: the matrix)? "
    r"(?P<formula>.+)": _matrix,
}
