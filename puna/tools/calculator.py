"""Exact arithmetic from text: what a small model cannot do in its head.

Numbers are fractions from beginning to end, so nothing is rounded before the result is written.
Every step is bounded before it is taken, since the text comes from a model and may be hostile.
"""

import re
from fractions import Fraction

from puna.errors import PunaError, RequestError
from puna.tools.tool import Tool

MAX_CHARACTERS = 1000
MAX_DEPTH = 50  # of parentheses, signs and powers inside one another
MAX_DIGITS = 2000  # of a result and of everything on the way to it
DECIMALS = 12  # digits after the point of a number that does not end

_MAX_BITS = int(MAX_DIGITS * 3.33)
_LIMIT = 10**MAX_DIGITS
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
    r"|(?P<sign>\*\*|//|[-+*/%^()×÷·−–]))",
    re.ASCII,
)
_SPELLINGS = {"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "^": "**"}


def evaluate(text: str) -> Fraction:
    """Return the exact value of an expression.

    It knows `+ - * / // % **`, parentheses, decimals, thousands separators (`1,234.5`), and the
    signs that people write for these operators.

    Raises:
        RequestError: the text is no arithmetic, divides by zero, or is larger than the bounds.
    """
    if len(text) > MAX_CHARACTERS:
        raise _error(f"{len(text)} characters given; at most {MAX_CHARACTERS} are read")
    parser = _Parser(_tokens(text))
    value = parser.sum(depth=0)
    if parser.next_text != "":
        raise _error(f"'{parser.next_text}' is not expected there")
    return value


def write(value: Fraction) -> str:
    """Write a number: exactly where it ends, else rounded to `DECIMALS` digits after the point.

    Small numbers keep as many digits after their leading zeros. Halves go to even.
    """
    if value.denominator == 1:
        return str(value.numerator)
    places = _places(value.denominator)
    if places is None or places > MAX_DIGITS:
        shift = max(0, len(str(value.denominator)) - len(str(abs(value.numerator))))
        places = DECIMALS + shift
    scaled = round(abs(value) * 10**places)
    whole, part = divmod(scaled, 10**places)
    digits = f"{part:0{places}}".rstrip("0")
    sign = "-" if value < 0 and scaled else ""
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def calculate(text: str) -> str:
    """Return the result as text; what is wrong comes back as text too, for the model to read."""
    try:
        return write(evaluate(text))
    except PunaError as error:
        return f"error: {error}"


def _call(arguments: dict[str, object]) -> str:
    query = arguments.get("query")
    if not isinstance(query, str) or len(arguments) != 1:
        return "error: calculator: exactly one argument is expected, query, which is text."
    return calculate(query)


CALCULATOR = Tool(
    name="calculator",
    description="Evaluates arithmetic exactly: + - * / // % ** and parentheses.",
    call=_call,
    is_builtin=True,
    parameters={
        "type": "object",
        "properties": {"query": {"type": "string", "description": "such as 12 * (3 + 4)"}},
        "required": ["query"],
        "additionalProperties": False,
    },
)


class _Parser:
    """Recursive descent: sum, product, signed, power, atom; each returns a value."""

    def __init__(self, tokens: list[str | Fraction]) -> None:
        self._tokens = tokens
        self._at = 0

    @property
    def next_text(self) -> str:
        """The next token as text; "" at the end."""
        token = self._peek()
        return token if isinstance(token, str) else write(token)

    def sum(self, *, depth: int) -> Fraction:
        value = self._product(depth)
        while (sign := self._take("+", "-")) is not None:
            other = self._product(depth)
            value = _bounded(value + other if sign == "+" else value - other)
        return value

    def _product(self, depth: int) -> Fraction:
        value = self._signed(depth)
        while (sign := self._take("*", "/", "//", "%")) is not None:
            value = _bounded(_multiply(value, sign, self._signed(depth)))
        return value

    def _signed(self, depth: int) -> Fraction:
        if depth > MAX_DEPTH:
            raise _error(f"signs and parentheses are nested deeper than {MAX_DEPTH}")
        if (sign := self._take("-", "+")) is not None:
            value = self._signed(depth + 1)
            return -value if sign == "-" else value
        base = self._atom(depth)
        if self._take("**") is None:
            return base
        return _power(base, self._signed(depth + 1))  # 2 ** 3 ** 2 is 2 ** (3 ** 2)

    def _atom(self, depth: int) -> Fraction:
        token = self._peek()
        if isinstance(token, Fraction):
            self._at += 1
            return token
        if self._take("(") is None:
            found = f"'{token}'" if token else "the end"
            raise _error(f"a number is expected, not {found}")
        value = self.sum(depth=depth + 1)
        if self._take(")") is None:
            raise _error("a parenthesis is not closed")
        return value

    def _peek(self) -> str | Fraction:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, *signs: str) -> str | None:
        token = self._peek()
        if not isinstance(token, str) or token not in signs:
            return None
        self._at += 1
        return token


def _tokens(text: str) -> list[str | Fraction]:
    tokens: list[str | Fraction] = []
    at, text = 0, text.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _error(f"{text[at : at + 20].strip()!r} is not arithmetic")
        if number := match["number"]:
            tokens.append(Fraction(number.replace(",", "")))
        else:
            tokens.append(_SPELLINGS.get(match["sign"], match["sign"]))
        at = match.end()
    return tokens


def _multiply(value: Fraction, sign: str, other: Fraction) -> Fraction:
    if sign == "*":
        return value * other
    if other == 0:
        raise _error("division by zero")
    if sign == "/":
        return value / other
    return Fraction(value // other) if sign == "//" else value % other


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise _error("a power is expected to be a whole number")
    if base == 0 and exponent < 0:
        raise _error("division by zero")
    if base not in (0, 1, -1):
        largest = max(abs(base.numerator), base.denominator)
        if abs(exponent) * (largest.bit_length() - 1) > _MAX_BITS:
            raise _too_large()
        return _bounded(base ** int(exponent))
    if base == 0:
        return Fraction(exponent == 0)
    return base ** (int(exponent) % 2)  # 1 or -1


def _bounded(value: Fraction) -> Fraction:
    if abs(value.numerator) >= _LIMIT or value.denominator >= _LIMIT:
        raise _too_large()
    return value


def _places(denominator: int) -> int | None:
    """Return how many decimals a fraction needs, or None where they never end."""
    twos = (denominator & -denominator).bit_length() - 1
    fives, rest = 0, denominator >> twos
    while rest % 5 == 0:
        rest //= 5
        fives += 1
    return max(twos, fives) if rest == 1 else None


def _too_large() -> RequestError:
    return _error(f"the result would have more than {MAX_DIGITS} digits")


def _error(what: str) -> RequestError:
    return RequestError(f"calculator: {what}.")
