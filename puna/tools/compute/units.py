"""Conversions of units, exactly: miles to kilometres, Fahrenheit to Celsius, feet and inches.

pint knows the units; it computes with fractions here, so nothing is rounded before it is written.
"""

import re
from decimal import Context, Decimal
from fractions import Fraction
from functools import cache
from tokenize import TokenError
from typing import Any

from puna.errors import ExtraError, RequestError
from puna.tools.calculator import write
from puna.tools.compute.answer import Pod, interpreted, result

MAX_CHARACTERS = 200
DIGITS = 12  # of a result that does not end sooner

_NUMBER = re.compile(
    r"(?<![\w*^/.()-])[-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:e[-+]?\d{1,2}\b)?(?:/\d+)?", re.IGNORECASE
)
_ARTICLE = re.compile(r"^(?:an?|one)\s+", re.IGNORECASE)
_CONVERSION = re.compile(
    r"(?:(?:convert|express|change) )?(?P<value>.+) (?:to|into|in|as) (?P<unit>.+)", re.IGNORECASE
)
_HOW_MANY = re.compile(
    r"how (?:many|much) (?P<unit>.+?)(?: are| is)?(?: there)? (?:in|per|equals?) (?P<value>.+)",
    re.IGNORECASE,
)
_UNIT_SIGNS = re.compile(r"[A-Za-zµμΩ°_ */^()\d.-]{1,100}")
_MONEY = re.compile(
    r"\b(?:usd|eur|gbp|jpy|cny|inr|chf|dollars?|euros?|yen|yuan|rupees?|francs?|bitcoins?)\b|[$€£¥]"
)
_TEMPERATURES = {
    "c": "degC",
    "f": "degF",
    "k": "kelvin",
    "celsius": "degC",
    "centigrade": "degC",
    "fahrenheit": "degF",
    "kelvin": "kelvin",
    "kelvins": "kelvin",
}
_SPELLINGS = (
    (r"°\s*|\bdegrees? (?=[cfk]\b|celsius|fahrenheit|centigrade)", ""),
    (r"\bper\b", "/"),
    (r"\b(?:square|sq\.?) (\w+)", r"\1**2"),
    (r"\b(?:cubic|cu\.?) (\w+)", r"\1**3"),
    (r"\b(\w+) squared\b", r"\1**2"),
    (r"\b(\w+) cubed\b", r"\1**3"),
    ("²", "**2"),
    ("³", "**3"),
    (r"\^", "**"),
)
_CONSTANTS = {"speed of light": "speed_of_light", "light year": "light_year"}


def answer(question: str) -> list[Pod] | None:
    """Answer a question about units, or return None where it is none."""
    if len(question) > MAX_CHARACTERS:
        return None
    match = _HOW_MANY.fullmatch(question) or _CONVERSION.fullmatch(question)
    return convert(match["value"], match["unit"]) if match else None


def convert(value: str, unit: str) -> list[Pod]:
    """Convert what `value` says into a unit.

    Raises:
        RequestError: a unit is not known, or the two measure different things.
        ExtraError: the library of units is not installed.
    """
    if _MONEY.search(value.lower()) or _MONEY.search(unit.lower()):
        raise RequestError("rates of currencies change daily and need a network.")
    registry = _registry()
    is_temperature = unit.strip().lower().removeprefix("°").split(" ")[-1] in _TEMPERATURES
    target = _unit(registry, unit, is_temperature)
    parts = [
        registry.Quantity(number, _unit(registry, text, is_temperature))
        for number, text in _parts(value)
    ]
    try:
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        found = total.to(target)
    except (_pint_error(), ArithmeticError, TypeError) as error:
        raise RequestError(f"'{value}' cannot be expressed in '{unit}' ({error}).") from error
    amounts = [f"{_number(part.magnitude)} {_spoken(part)}".strip() for part in parts]
    asked = f"{' + '.join(amounts)} in {_spoken(found)}"
    return [interpreted(asked), result(f"{_number(found.magnitude)} {unit.strip()}")]


def _parts(text: str) -> list[tuple[Fraction, str]]:
    """Split `5 ft 3 in` into numbers with the units that follow them."""
    found = list(_NUMBER.finditer(text))
    if not found:
        return [(Fraction(1), _ARTICLE.sub("", text.strip()))]
    if text[: found[0].start()].strip():
        raise RequestError(f"'{text}' is no amount; a number and a unit are expected.")
    parts = []
    for number, following in zip(found, [*found[1:], None], strict=True):
        unit = text[number.end() : following.start() if following else len(text)]
        unit = re.sub(r"(?:\s*\band|\s*[,+])\s*$", "", unit)
        try:
            parts.append((Fraction(number[0].replace(",", "")), unit))
        except ZeroDivisionError as error:
            raise RequestError("division by zero.") from error
    return parts


def _unit(registry: Any, text: str, is_temperature: bool) -> Any:
    plain = text.strip().lower()
    plain = _CONSTANTS.get(plain.removeprefix("the "), text.strip())
    for pattern, replacement in _SPELLINGS:
        plain = re.sub(pattern, replacement, plain, flags=re.IGNORECASE)
    plain = plain.strip()
    if is_temperature:
        plain = _TEMPERATURES.get(plain.lower(), plain)
    if not _UNIT_SIGNS.fullmatch(plain):
        raise RequestError(f"'{text.strip()[:40]}' is not a known unit.")
    for spelling in dict.fromkeys((plain, plain.lower())):
        try:
            return registry.parse_units(spelling)
        except (_pint_error(), ValueError, TypeError, KeyError, SyntaxError, TokenError):
            continue
        except (AttributeError, ArithmeticError, IndexError, RecursionError):
            continue  # pint's own parser fails so for odd texts
    raise RequestError(f"'{text.strip()[:40]}' is not a known unit.")


def _number(value: Any) -> str:
    """Write a fraction: exactly where that is short, else with `DIGITS` digits."""
    exact = Fraction(value)
    text = write(exact) if abs(exact) < 10**DIGITS else ""
    if text and len(re.sub(r"\D", "", text).lstrip("0")) <= DIGITS and Fraction(text) == exact:
        return text
    context = Context(prec=DIGITS)
    rounded = context.divide(Decimal(exact.numerator), Decimal(exact.denominator)).normalize()
    plain = -6 <= rounded.adjusted() < DIGITS
    return f"{rounded:f}" if plain else f"{rounded:E}".replace("E", " * 10^").replace("^+", "^")


def _spoken(quantity: Any) -> str:
    """Write a unit by its full name: `foot second^-2`."""
    return " ".join(
        str(name) if power == 1 else f"{name}^{_number(power)}"
        for name, power in quantity.unit_items()
    )


@cache
def _registry() -> Any:
    try:
        import pint
    except ImportError as error:
        raise ExtraError(
            "converting units needs the extra `tools`: pip install 'puna[tools]'."
        ) from error
    return pint.UnitRegistry(non_int_type=Fraction, autoconvert_offset_to_baseunit=True)


def _pint_error() -> type[Exception]:
    import pint

    return pint.errors.PintError
