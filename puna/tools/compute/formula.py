"""Formulas as people write them become a small tree; nothing in them is ever executed.

`2x`, `sin 2x`, `x^2`, `|x|`, `5!`, `3 sin^2 x` and equations are understood. The tree holds
numbers, names and calls alone, and its size is bounded; `symbolic` decides what the names mean.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

from puna.errors import RequestError

MAX_CHARACTERS = 1000
MAX_DEPTH = 40
MAX_DIGITS = 300  # of one number

# How many arguments a function takes, at least and at most.
FUNCTIONS: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(("sin", "cos", "tan", "cot", "sec", "csc"), (1, 1)),
    **dict.fromkeys(("asin", "acos", "atan", "arcsin", "arccos", "arctan"), (1, 1)),
    **dict.fromkeys(("sinh", "cosh", "tanh", "asinh", "acosh", "atanh"), (1, 1)),
    **dict.fromkeys(("exp", "ln", "log2", "log10", "sqrt", "cbrt"), (1, 1)),
    **dict.fromkeys(("abs", "floor", "ceil", "ceiling", "round", "sign"), (1, 1)),
    **dict.fromkeys(("gamma", "zeta", "erf", "re", "im", "conjugate"), (1, 1)),
    **dict.fromkeys(("factorial", "fibonacci", "totient"), (1, 1)),
    **dict.fromkeys(("root", "binomial", "mod"), (2, 2)),
    **dict.fromkeys(("gcd", "lcm", "max", "min"), (1, 20)),
    "log": (1, 2),
}
CONSTANTS = frozenset({"pi", "e", "i", "infinity", "goldenratio"})
RELATIONS = ("=", "<=", ">=", "<", ">")

_SPELLINGS = (
    *(("×", "*"), ("·", "*"), ("⋅", "*"), ("÷", "/"), ("−", "-"), ("–", "-"), ("**", "^")),
    *(("²", "^2"), ("³", "^3"), ("≤", "<="), ("≥", ">="), ("==", "=")),
    *(
        ("π", " pi "),
        ("∞", " infinity "),
        ("°", " degrees "),
        ("log_2", "log2"),
        ("log_10", "log10"),
    ),
)
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|(?:\d+(?:\.\d*)?|\.\d+))"
    r"(?P<power>[eE][-+]?\d{1,3}(?![\w.]))?"
    r"|(?P<name>[^\W\d_]+(?:\d+|_[a-zA-Z\d]+)?)|(?P<sign><=|>=|[-+*/^()|!=<>,\[\]{}%√]))"
)


@dataclass(frozen=True, slots=True)
class Number:
    """An exact number."""

    value: Fraction


@dataclass(frozen=True, slots=True)
class Name:
    """A constant or an unknown."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function or an operator: add, multiply, divide, power, negate, list, or a relation."""

    name: str
    arguments: tuple["Tree", ...]


Tree = Number | Name | Call
_Token = Fraction | str

_UNKNOWNS = frozenset("abcxyz")  # letters that may stand together; other words are words


def parse(text: str) -> Tree:
    """Read a formula, or an equation or inequality between two.

    Raises:
        RequestError: it is no formula, or larger than the bounds.
    """
    if len(text) > MAX_CHARACTERS:
        raise _error(f"{len(text):,} characters given; at most {MAX_CHARACTERS} are read")
    parser = _Parser(_tokens(text))
    tree = parser.relation()
    if parser.next is not None:
        raise _error(f"'{_shown(parser.next)}' is not expected there")
    return tree


class _Parser:
    """Recursive descent; each method reads one level of binding, the loosest first."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens, self._at, self._depth, self._bars = tokens, 0, 0, 0

    @property
    def next(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def relation(self) -> Tree:
        left = self._sum()
        sign = self._take(*RELATIONS)
        return left if sign is None else Call(sign, (left, self._sum()))

    def _sum(self) -> Tree:
        tree = self._product()
        while (sign := self._take("+", "-")) is not None:
            other = self._product()
            tree = Call("add", (tree, other if sign == "+" else Call("negate", (other,))))
        return tree

    def _product(self) -> Tree:
        tree = self._signed()
        while True:
            if sign := self._take("*", "/", "mod", "%"):
                name = {"*": "multiply", "/": "divide"}.get(sign, "mod")
                tree = Call(name, (tree, self._signed()))
            elif self._starts_factor():
                tree = Call("multiply", (tree, self._power()))
            else:
                return tree

    def _signed(self) -> Tree:
        signs = 0
        while (sign := self._take("+", "-")) is not None:
            signs += sign == "-"
        tree = self._power()
        return Call("negate", (tree,)) if signs % 2 else tree

    def _power(self) -> Tree:
        base = self._postfix()
        if self._take("^") is None:
            return base
        with self._deeper():
            return Call("power", (base, self._signed()))  # 2^3^2 is 2^(3^2)

    def _postfix(self) -> Tree:
        tree = self._atom()
        while True:
            if self._take("!"):
                name = "factorial2" if self._take("!") else "factorial"
                tree = Call(name, (tree,))
            elif self._take("degrees", "degree", "deg"):
                tree = Call("degrees", (tree,))
            else:
                return tree

    def _atom(self) -> Tree:
        token = self.next
        if token is None:
            raise _error("a number or a name is expected at the end")
        self._at += 1
        if isinstance(token, Fraction):
            return Number(token)
        with self._deeper():
            if token in ("(", "[", "{", "|"):
                return self._bracket(token)
            if token in FUNCTIONS:
                return self._function(token)
            if token == "√":
                return Call("sqrt", (self._power(),))
        if token in CONSTANTS or (len(token) == 1 and token.isalpha()) or "_" in token:
            return Name(token)
        if token[0].isalpha():
            return _letters(token)
        raise _error(f"a number or a name is expected, not '{token}'")

    @contextmanager
    def _deeper(self) -> Iterator[None]:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _error(f"it is nested deeper than {MAX_DEPTH}")
        yield
        self._depth -= 1

    def _bracket(self, token: str) -> Tree:
        if token == "(":
            tree = self._sum()
            self._expect(")")
            return tree
        if token == "|":
            self._bars += 1
            tree = self._sum()
            self._bars -= 1
            self._expect("|")
            return Call("abs", (tree,))
        closing = "]" if token == "[" else "}"
        items = self._list(closing)
        return Call("list", items)

    def _function(self, name: str) -> Tree:
        """Read `sin(x)`, `sin x`, `sin 2x`, or `sin^2 x`."""
        exponent = self._postfix() if self._take("^") else None
        arguments = self._list(")") if self._take("(") else (self._plain_argument(),)
        least, most = FUNCTIONS[name]
        if not least <= len(arguments) <= most:
            many = str(least) if least == most else f"{least} to {most}"
            raise _error(f"{name} takes {many} arguments, not {len(arguments)}")
        tree = Call(name, arguments)
        return tree if exponent is None else Call("power", (tree, exponent))

    def _plain_argument(self) -> Tree:
        tree = self._signed()
        while self._starts_factor() and self.next not in FUNCTIONS and self.next != "(":
            tree = Call("multiply", (tree, self._power()))
        return tree

    def _list(self, closing: str) -> tuple[Tree, ...]:
        items = [self._sum()]
        while self._take(","):
            items.append(self._sum())
        self._expect(closing)
        return tuple(items)

    def _starts_factor(self) -> bool:
        token = self.next
        if token is None or isinstance(token, Fraction):
            return token is not None
        if token == "|":
            return not self._bars
        return token in ("(", "[", "{", "√") or token[0].isalpha()

    def _take(self, *signs: str) -> str | None:
        token = self.next
        if not isinstance(token, str) or token not in signs:
            return None
        self._at += 1
        return token

    def _expect(self, closing: str) -> None:
        if self._take(closing) is None:
            raise _error(f"a '{closing}' is missing")


def _tokens(text: str) -> list[_Token]:
    for spelling, plain in _SPELLINGS:
        text = text.replace(spelling, plain)
    tokens: list[_Token] = []
    text, at, depth = text.strip(), 0, 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _error(f"{text[at : at + 20].strip()!r} is not understood")
        digits, end = match["number"], match.end()
        if digits and depth and "," in digits:  # f(100,200) has two arguments
            digits, end = digits.split(",")[0], match.start("number") + digits.index(",")
            tokens.append(Fraction(digits))
        elif digits:
            if len(digits) > MAX_DIGITS:
                raise _error(f"a number of {len(digits)} digits given; at most {MAX_DIGITS} fit")
            tokens.append(Fraction(digits.replace(",", "").rstrip(".") + (match["power"] or "")))
        elif name := match["name"]:
            tokens.append(name if len(name) == 1 or "_" in name else _known_name(name))
        else:
            depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(match["sign"], 0)
            tokens.append(match["sign"])
        at = end
    return tokens


def _known_name(name: str) -> str:
    lowered = name.casefold()
    return {"inf": "infinity", "oo": "infinity", "arcsine": "arcsin"}.get(lowered, lowered)


def _letters(word: str) -> Tree:
    """Read `xy` as x times y; a longer word is not mathematics."""
    if len(word) > 3 or not _UNKNOWNS.issuperset(word):
        raise _error(f"the word '{word[:40]}' is not known")
    tree: Tree = Name(word[0])
    for letter in word[1:]:
        tree = Call("multiply", (tree, Name(letter)))
    return tree


def _shown(token: _Token) -> str:
    return str(token)[:40]


def _error(what: str) -> RequestError:
    return RequestError(f"formula: {what}.")
