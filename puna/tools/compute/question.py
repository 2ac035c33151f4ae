"""A question in words becomes an answer: the kinds of questions are tried one after another.

Polite words and typographic signs are removed first. The first kind that recognises the question
answers it; what none recognises is read as a formula.
"""

import re

from puna.errors import RequestError
from puna.tools.compute.answer import Pod, interpreted

MAX_CHARACTERS = 1000

KNOWN = (
    "Arithmetic, algebra, calculus, whole numbers, units and dates are computed; facts about the "
    "world are not known."
)

_POLITE = re.compile(
    r"^(?:please |can you |could you |tell me |what(?: i|')s |what are |what was |what will |"
    r"calculate |compute |evaluate |find |give me |how much is |how long is |the |value of |"
    r"result of |was |is (?=the ))+",
    re.IGNORECASE,
)
_SIGNS = str.maketrans(
    {"\u2212": "-", "\u2013": "-", "\u2018": "'", "\u2019": "'", "\u00a0": " ", "\u2032": "'"}
)
_PERCENT_OF = re.compile(r"(\d[\d.,]*) ?(?:%|percent) of ", re.IGNORECASE)
_WORDS = (
    (re.compile(r"(?<=[\w)]) (?:plus|and added to) (?=[\w(])"), " + "),
    (re.compile(r"(?<=[\w)]) minus (?=[\w(])"), " - "),
    (re.compile(r"(?<=[\w)]) (?:times|multiplied by) (?=[\w(])"), " * "),
    (re.compile(r"(?<=[\w)]) (?:divided by|over) (?=[\w(])"), " / "),
    (re.compile(r"(?<=[\w)]) (?:to the power(?: of)?) (?=[\w(])"), " ^ "),
    (re.compile(r"(?<=[\w)]) squared\b"), "^2"),
    (re.compile(r"(?<=[\w)]) cubed\b"), "^3"),
    (re.compile(r"\b(?:the )?(?:square root of|sqrt of) "), "sqrt "),
    (re.compile(r"\b(?:the )?cube root of "), "cbrt "),
    (re.compile(r"\b(?:natural )?log(?:arithm)? of "), "log "),
    (re.compile(r"\b(sin|cos|tan)(?:e|ine|gent)? of "), r"\1 "),
    (re.compile(r"(\d+) (?:choose|nCr) (\d+)"), r"binomial(\1, \2)"),
    (re.compile(r"(\d+) factorial\b|factorial of (\d+)"), r"\1\2!"),
)


def plain(text: str) -> str:
    """Return a question without polite words, signs of typography, and the question mark."""
    return _POLITE.sub("", " ".join(text.translate(_SIGNS).split()).rstrip("?. "))


def in_signs(text: str) -> str:
    """Return a formula in words (`15% of 80`, `2 plus 3`) with signs instead."""
    text = _PERCENT_OF.sub(r"(\1/100) * ", text)
    for pattern, signs in _WORDS:
        text = pattern.sub(signs, text)
    return text


def answer(text: str) -> list[Pod]:
    """Answer a question.

    Raises:
        RequestError: it is not understood, or has no answer.
    """
    if len(text) > MAX_CHARACTERS:
        raise RequestError(f"{len(text):,} characters given; at most {MAX_CHARACTERS} are read.")
    question = plain(text)
    return _in_words(question) or _formula(question)


def _in_words(question: str) -> list[Pod] | None:
    from puna.tools.compute import dates, units, whole_numbers

    if pods := whole_numbers.answer(question) or dates.answer(question):
        return pods
    from puna.tools.compute import algebra

    return algebra.answer(in_signs(question)) or units.answer(question)


def _formula(question: str) -> list[Pod]:
    import sympy
    from sympy.core.relational import Relational
    from sympy.logic.boolalg import BooleanAtom

    from puna.tools.compute.equations import solve
    from puna.tools.compute.formula import parse
    from puna.tools.compute.symbolic import build, value_pods

    formula = in_signs(question)
    try:
        tree = parse(formula)
    except RequestError as error:
        raise RequestError(f"the question is not understood. {KNOWN} Read as a {error}") from error
    value = build(tree)
    if isinstance(value, (Relational, BooleanAtom)):
        return solve(formula, [])
    if value.free_symbols:
        value = sympy.simplify(value)
    return [interpreted(formula), *value_pods(value)]
