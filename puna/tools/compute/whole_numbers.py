"""Questions about whole numbers and digits: primes, factors, divisors, bases, decimals of pi."""

import re
from collections.abc import Callable, Mapping
from math import gcd, lcm

from puna.errors import RequestError
from puna.tools.compute.answer import Pod, interpreted, result

MAX_DIGITS = 300  # of a number
MAX_LISTED = 1000
MAX_PLACES = 10_000  # of pi
MAX_INDEX = 10_000_000  # of a prime

_N = r"(?P<n>\d[\d,]*)"
_CONSTANT = r"(?P<constant>pi|π|e|sqrt ?\(?2\)?|the golden ratio)"
_ROMAN = (
    *((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L")),
    *((40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")),
)
_BASES = {"binary": 2, "octal": 8, "decimal": 10, "hexadecimal": 16, "hex": 16}

_Given = Mapping[str, str]


def answer(question: str) -> list[Pod] | None:
    """Answer a question about whole numbers, or return None where it is none."""
    for pattern, compute in _QUESTIONS.items():
        if match := re.fullmatch(pattern, question, re.IGNORECASE):
            return compute({name: value or "" for name, value in match.groupdict().items()})
    return None


def _whole(text: str) -> int:
    digits = text.replace(",", "")
    if len(digits) > MAX_DIGITS:
        raise RequestError(f"{len(digits)} digits given; at most {MAX_DIGITS} are expected.")
    return int(digits)


def _index(text: str, limit: int) -> int:
    number = _whole(text)
    if not 1 <= number <= limit:
        raise RequestError(f"{number} given; 1 to {limit:,} is expected.")
    return number


def _is_prime(given: _Given) -> list[Pod]:
    import sympy

    number = _whole(given["n"])
    verdict = "is a prime number" if sympy.isprime(number) else "is not a prime number"
    return [interpreted(f"is {number} prime?"), result(f"{number} {verdict}")]


def _factors(given: _Given) -> list[Pod]:
    import sympy

    number = _whole(given["n"])
    if number < 2:
        return [interpreted(f"factor {number}"), result(f"{number} has no prime factors")]
    factors = sympy.factorint(number)
    text = " * ".join(f"{p}^{times}" if times > 1 else str(p) for p, times in factors.items())
    is_prime = factors == {number: 1}
    return [interpreted(f"factor {number}"), result(f"{text} (prime)" if is_prime else text)]


def _divisors(given: _Given) -> list[Pod]:
    import sympy

    number = _whole(given["n"])
    count = int(sympy.divisor_count(number))
    if count > MAX_LISTED:
        return [interpreted(f"divisors of {number}"), result(f"{count} divisors")]
    divisors = sympy.divisors(number)
    text = ", ".join(map(str, divisors))
    counted = Pod(title="Number of divisors", text=str(len(divisors)))
    return [interpreted(f"divisors of {number}"), result(text), counted]


def _common(given: _Given) -> list[Pod]:
    numbers = [_whole(text) for text in re.findall(r"\d+", given["numbers"])][:50]
    is_multiple = given["what"].lower() in ("lcm", "least common multiple")
    name = "least common multiple" if is_multiple else "greatest common divisor"
    value = lcm(*numbers) if is_multiple else gcd(*numbers)
    return [interpreted(f"{name} of {', '.join(map(str, numbers))}"), result(str(value))]


def _neighbour(given: _Given) -> list[Pod]:
    import sympy

    number = _whole(given["n"])
    if given["which"].lower() == "next":
        return [interpreted(f"next prime after {number}"), result(str(sympy.nextprime(number)))]
    if number < 3:
        raise RequestError("there is no prime number before 2.")
    return [interpreted(f"prime before {number}"), result(str(sympy.prevprime(number)))]


def _nth_prime(given: _Given) -> list[Pod]:
    import sympy

    number = _index(given["n"], MAX_INDEX)
    return [interpreted(f"prime number {number}"), result(str(sympy.prime(number)))]


def _primes_between(given: _Given) -> list[Pod]:
    import sympy

    low, high = _whole(given["low"] or "2"), _whole(given["high"])
    if high - low > MAX_INDEX:
        raise RequestError(f"a range of {high - low:,} given; at most {MAX_INDEX:,} is listed.")
    primes = list(sympy.primerange(low, high + 1))
    counted = Pod(title="Number of primes", text=str(len(primes)), is_primary=True)
    asked = interpreted(f"prime numbers from {low} to {high}")
    if given["count"]:
        return [asked, counted]
    shown = ", ".join(map(str, primes[:MAX_LISTED])) + (" ..." if len(primes) > MAX_LISTED else "")
    return [asked, result(shown or "none"), counted]


def _nth_digit(given: _Given) -> list[Pod]:
    """Count digits from the first one, and decimals from the first after the point."""
    place = _index(given["n"], MAX_PLACES)
    is_decimal = given["what"].lower().startswith("decimal")
    whole, decimals = _digits_of(given["constant"], place + 10)
    digits = decimals if is_decimal else whole + decimals
    what = "decimal (after the point)" if is_decimal else "digit (with those before the point)"
    near = digits[max(0, place - 11) : place + 10]
    return [
        interpreted(f"{what} number {place} of {given['constant']}"),
        Pod(title="Nearby digits", text=f"...{near}..."),
        result(digits[place - 1]),
    ]


def _digits(given: _Given) -> list[Pod]:
    count = _index(given["n"], MAX_PLACES)
    whole, decimals = _digits_of(given["constant"], count + 5)
    is_decimal = given["what"].lower().startswith("decimal")
    shown = decimals[: count if is_decimal else count - len(whole)]
    asked = interpreted(f"{given['constant']}, {count} {given['what'].lower()}")
    return [asked, result(f"{whole}.{shown}" if shown else whole)]


def _digits_of(constant: str, places: int) -> tuple[str, str]:
    import sympy

    values = {"pi": sympy.pi, "π": sympy.pi, "e": sympy.E, "the golden ratio": sympy.GoldenRatio}
    value = values.get(constant.lower(), sympy.sqrt(2))
    whole, _, decimals = str(value.evalf(places + 15)).partition(".")
    return whole, decimals[:places]


def _fibonacci(given: _Given) -> list[Pod]:
    import sympy

    number = _index(given["n"], MAX_PLACES)
    return [interpreted(f"Fibonacci number {number}"), result(str(sympy.fibonacci(number)))]


def _in_base(given: _Given) -> list[Pod]:
    text, name = given["text"].lower().replace(",", ""), given["base"].lower()
    given_base = 16 if text.startswith("0x") else 2 if text.startswith("0b") else 10
    if len(text) > MAX_DIGITS:
        raise RequestError(f"{len(text)} digits given; at most {MAX_DIGITS} are expected.")
    try:
        number = int(text, given_base)
    except ValueError as error:
        raise RequestError(f"'{text}' is not a number in base {given_base}.") from error
    if name.startswith("roman"):
        return [interpreted(f"{number} in Roman numerals"), result(_roman(number))]
    base = _BASES.get(name) or int(name.removeprefix("base "))
    if not 2 <= base <= 36:
        raise RequestError(f"base {base} given; 2 to 36 is expected.")
    return [interpreted(f"{number} in base {base}"), result(_written_in(number, base))]


def _written_in(number: int, base: int) -> str:
    digits = ""
    while number or not digits:
        number, digit = divmod(number, base)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits


def _roman(number: int) -> str:
    if not 1 <= number <= 3999:
        raise RequestError(f"{number} given; Roman numerals go from 1 to 3999.")
    text = ""
    for value, letters in _ROMAN:
        count, number = divmod(number, value)
        text += letters * count
    return text


_QUESTIONS: Mapping[str, Callable[[_Given], list[Pod]]] = {
    rf"(?:is )?{_N} (?:a )?prime(?: number)?": _is_prime,
    rf"(?:factor|factori[sz]e|prime factors of|(?:prime )?factori[sz]ation of) {_N}": _factors,
    rf"(?:all )?(?:divisors|factors) of {_N}": _divisors,
    r"(?P<what>gcd|gcf|lcm|greatest common (?:divisor|factor)|least common multiple)(?: of)? ?\(?"
    r"(?P<numbers>\d+(?:(?:, and |, ?| and | )\d+)+)\)?": _common,
    rf"(?P<which>next|previous|last) prime(?: number)? (?:after|before|to) {_N}": _neighbour,
    rf"{_N}(?:st|nd|rd|th) prime(?: number)?": _nth_prime,
    r"(?:(?P<count>number of|how many) )?prime(?: number)?s(?: are there)? "
    r"(?:(?:between|from) (?P<low>\d+) (?:and|to) |(?:below|under|up to) )(?P<high>\d+)": (
        _primes_between
    ),
    rf"{_N}(?:st|nd|rd|th) (?P<what>decimal|digit)(?: place| digit)? of {_CONSTANT}": _nth_digit,
    rf"(?:first )?{_N} (?P<what>decimals|digits|decimal places) of {_CONSTANT}": _digits,
    rf"{_CONSTANT} to {_N} (?P<what>decimals|digits|decimal places)": _digits,
    rf"{_N}(?:st|nd|rd|th) fibonacci number": _fibonacci,
    r"(?:convert )?(?P<text>0x[\da-f]+|0b[01]+|\d[\d,]*) (?:in|to|into|as) "
    r"(?P<base>binary|octal|decimal|hexadecimal|hex|base \d{1,2}|roman(?: numerals?)?)": _in_base,
}
