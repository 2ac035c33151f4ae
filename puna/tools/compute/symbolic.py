"""Formulas become sympy's expressions, by a table of what each name means, and text again.

Only what stands in the tables here reaches sympy. Every power and factorial is bounded before it
is taken; what is slow all the same ends with the process that computes it.
"""

import re
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import sympy

from puna.errors import RequestError
from puna.tools.calculator import write
from puna.tools.compute.answer import Pod, result
from puna.tools.compute.formula import Call, Name, Number, Tree, parse

MAX_BITS = 200_000  # of a power of whole numbers
MAX_EXPONENT = 2000  # of anything else, so that nothing is multiplied out for ever
MAX_FACTORIAL = 10_000
DIGITS = 15  # of an approximation
_LONG_DIGITS = 1000

Expression = Any  # sympy is not typed

_FUNCTIONS: dict[str, Callable[..., Expression]] = {
    **{name: getattr(sympy, name) for name in ("sin", "cos", "tan", "cot", "sec", "csc")},
    **{name: getattr(sympy, name) for name in ("asin", "acos", "atan", "sinh", "cosh", "tanh")},
    **{name: getattr(sympy, name) for name in ("asinh", "acosh", "atanh", "exp", "erf", "gamma")},
    **{name: getattr(sympy, name) for name in ("sqrt", "cbrt", "root", "floor", "ceiling", "sign")},
    **{name: getattr(sympy, name) for name in ("re", "im", "conjugate", "zeta", "totient")},
    "arcsin": sympy.asin,
    "arccos": sympy.acos,
    "arctan": sympy.atan,
    "ln": sympy.log,
    "log": sympy.log,
    "log2": lambda x: sympy.log(x, 2),
    "log10": lambda x: sympy.log(x, 10),
    "abs": sympy.Abs,
    "ceil": sympy.ceiling,
    "round": lambda x: sympy.floor(x + sympy.Rational(1, 2)),
    "max": sympy.Max,
    "min": sympy.Min,
    "gcd": lambda *values: sympy.gcd_list(values),
    "lcm": lambda *values: sympy.lcm_list(values),
    "add": lambda x, y: x + y,
    "multiply": lambda x, y: x * y,
    "negate": lambda x: -x,
    "degrees": lambda x: x * sympy.pi / 180,
    "=": lambda x, y: sympy.Eq(x, y),
    "<=": lambda x, y: sympy.Le(x, y),
    ">=": lambda x, y: sympy.Ge(x, y),
    "<": lambda x, y: sympy.Lt(x, y),
    ">": lambda x, y: sympy.Gt(x, y),
}
_CONSTANTS = {
    "pi": sympy.pi,
    "e": sympy.E,
    "i": sympy.I,
    "infinity": sympy.oo,
    "goldenratio": sympy.GoldenRatio,
}


def read(text: str) -> Expression:
    """Return the expression or the equation that a text says.

    Raises:
        RequestError: it is no formula, or cannot be computed.
    """
    return build(parse(text))


def build(tree: Tree) -> Expression:
    """Return the expression of a tree."""
    match tree:
        case Number(value):
            return sympy.Rational(value.numerator, value.denominator)
        case Name(name):
            return _CONSTANTS[name] if name in _CONSTANTS else sympy.Symbol(name)
        case Call("list", items):
            return _matrix_or_list([build(item) for item in items])
        case Call(name, arguments):
            return _apply(name, [build(argument) for argument in arguments])


def write_expression(value: Expression) -> str:
    """Write an expression as people do."""
    if isinstance(value, sympy.MatrixBase):
        rows = (", ".join(map(write_expression, row)) for row in value.tolist())
        return "{" + ", ".join(f"{{{row}}}" for row in rows) + "}"
    if isinstance(value, sympy.Integer):
        return str(int(value))
    text = sympy.sstr(value, order="lex").replace("**", "^")
    text = re.sub(r"\bI\b", "i", text)
    text = re.sub(r"\bE\b", "e", text)
    return re.sub(r"\boo\b", "infinity", text).replace("zoo", "complex infinity")


def approximate(value: Expression) -> str | None:
    """Return a number with `DIGITS` digits where its exact form does not show its size."""
    if isinstance(value, (sympy.Integer, sympy.MatrixBase)) or not getattr(
        value, "is_number", False
    ):
        return None
    if isinstance(value, sympy.Rational):
        return write(Fraction(int(value.p), int(value.q)))
    number = value.evalf(DIGITS, chop=True)
    if not number.is_number or number.has(sympy.nan, sympy.zoo) or number.is_infinite:
        return None
    text = re.sub(r"(\.\d*?)0+(?=\D|$)", r"\1", write_expression(number))
    return re.sub(r"\.(?=\D|$)", "", text)


def value_pods(value: Expression) -> list[Pod]:
    """Say a value exactly and, where that helps, as a decimal number."""
    if isinstance(value, sympy.Integer) and len(digits := str(abs(int(value)))) > _LONG_DIGITS:
        sign = "-" if value < 0 else ""
        short = f"{sign}{digits[0]}.{digits[1:DIGITS]} * 10^{len(digits) - 1}"
        return [result(short), Pod(title="Number of digits", text=str(len(digits)))]
    exact, decimal = write_expression(value), approximate(value)
    if isinstance(value, sympy.Float) and decimal:
        return [result(decimal)]
    pods = [result(exact)]
    if decimal and decimal != exact:
        pods.append(Pod(title="Decimal approximation", text=decimal))
    return pods


def unknowns(values: Iterable[Expression]) -> list[Expression]:
    """Return the unknowns of expressions, x first, then by the alphabet."""
    found = {symbol for value in values for symbol in value.free_symbols}
    return sorted(found, key=lambda symbol: (symbol.name != "x", symbol.name))


def _apply(name: str, values: list[Expression]) -> Expression:
    try:
        match name:
            case "divide":
                if values[1] == 0:
                    raise _error("division by zero")
                if isinstance(values[1], sympy.MatrixBase):
                    raise _error("a matrix does not divide")
                return values[0] / values[1]
            case "power":
                return _power(values[0], values[1])
            case "factorial" | "factorial2" | "fibonacci":
                _check_whole(name, values[0])
                return getattr(sympy, name)(values[0])
            case "binomial":
                for value in values:
                    _check_whole(name, value)
                return sympy.binomial(*values)
            case "mod":
                if values[1] == 0:
                    raise _error("division by zero")
                return sympy.Mod(*values)
            case _:
                return _FUNCTIONS[name](*values)
    except (TypeError, ValueError, AttributeError, NotImplementedError, ArithmeticError) as error:
        if isinstance(error, RequestError):
            raise
        raise _error(f"{name} cannot be computed there") from error


def _power(base: Expression, exponent: Expression) -> Expression:
    if base == 0 and exponent.is_number and exponent.is_negative:
        raise _error("division by zero")
    if not isinstance(exponent, sympy.Rational):
        return base**exponent
    if isinstance(base, sympy.Rational) and base not in (0, 1, -1):
        bits = max(abs(int(base.p)), int(base.q)).bit_length()
        if abs(exponent) * bits > MAX_BITS:
            raise _error("the result would be too long")
    elif abs(exponent) > MAX_EXPONENT and base not in (0, 1, -1):
        raise _error(f"a power of {exponent} given; at most {MAX_EXPONENT} is taken")
    return base**exponent


def _check_whole(name: str, value: Expression) -> None:
    if value.is_number and not (value.is_integer and 0 <= value <= MAX_FACTORIAL):
        raise _error(f"{name} takes whole numbers from 0 to {MAX_FACTORIAL:,}")


def _matrix_or_list(items: list[Expression]) -> Expression:
    if len(items) > 12:
        raise _error("a list of more than 12 given")
    if any(isinstance(item, sympy.MatrixBase) for item in items):
        if not all(isinstance(item, sympy.MatrixBase) and item.cols == 1 for item in items):
            raise _error("the rows of a matrix are expected to be lists of numbers")
        if len({item.rows for item in items}) != 1:
            raise _error("the rows of a matrix are expected to have one length")
        return sympy.Matrix([list(item) for item in items])
    return sympy.Matrix(items)


def _error(what: str) -> RequestError:
    return RequestError(f"formula: {what}.")
