"""Text in the eight languages of Llama 3.1, from the names of CLDR and from number words.

The fourth seed source. babel brings CLDR: how each language calls countries, languages, currencies,
units, months and days, how it writes dates, lists and durations. A document is a dozen lines of one
kind in one language; dictionary documents put the languages side by side. Numbers that
`heldout.held_out_number` reserves stand in held-out documents only, one in every such line.
"""

import datetime
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from puna.data.document import Document
from puna.data.heldout import held_out_number
from puna.data.number_words import LANGUAGES, number_words
from puna.errors import ExtraError

_LINES_PER_DOCUMENT = 14
_FIRST_DAY = datetime.date(1900, 1, 1).toordinal()
_LAST_DAY = datetime.date(2099, 12, 31).toordinal()


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrases:
    """Sentence patterns of one language."""

    called: str  # {language} {thing} {name}: in LANGUAGE, THING is called NAME
    today: str  # {date}
    tomorrow: str  # {day} {next}: after DAY comes NEXT
    spelled: str  # {number} {words}: the number is written WORDS
    read: str  # {words} {number}: WORDS is the number
    costs: str  # {price}
    measures: str  # {amount}
    follows: str  # {number} {next}: after NUMBER comes NEXT, in words


PHRASES: Mapping[str, Phrases] = {
    "en": Phrases(
        called="In {language}, {thing} is called {name}.",
        today="Today is {date}.",
        tomorrow="After {day} comes {next}.",
        spelled="The number {number} is written {words}.",
        read="In digits, {words} is {number}.",
        costs="It costs {price}.",
        measures="That makes {amount}.",
        follows="After {number} comes {next}.",
    ),
    "de": Phrases(
        called="Auf {language} heißt {thing} {name}.",
        today="Heute ist {date}.",
        tomorrow="Nach {day} kommt {next}.",
        spelled="Die Zahl {number} schreibt man {words}.",
        read="In Ziffern ist {words} gleich {number}.",
        costs="Das kostet {price}.",
        measures="Das sind {amount}.",
        follows="Nach {number} kommt {next}.",
    ),
    "fr": Phrases(
        called="En {language}, {thing} se dit {name}.",
        today="Nous sommes le {date}.",
        tomorrow="Après {day} vient {next}.",
        spelled="Le nombre {number} s'écrit {words}.",
        read="En chiffres, {words} s'écrit {number}.",
        costs="Cela coûte {price}.",
        measures="Cela fait {amount}.",
        follows="Après {number} vient {next}.",
    ),
    "it": Phrases(
        called="In {language}, {thing} si dice {name}.",
        today="Oggi è {date}.",
        tomorrow="Dopo {day} viene {next}.",
        spelled="Il numero {number} si scrive {words}.",
        read="In cifre, {words} si scrive {number}.",
        costs="Costa {price}.",
        measures="In tutto sono {amount}.",
        follows="Dopo {number} viene {next}.",
    ),
    "pt": Phrases(
        called="Em {language}, {thing} diz-se {name}.",
        today="Hoje é {date}.",
        tomorrow="Depois de {day} vem {next}.",
        spelled="O número {number} escreve-se {words}.",
        read="Em algarismos, {words} escreve-se {number}.",
        costs="Isso custa {price}.",
        measures="Ao todo são {amount}.",
        follows="Depois de {number} vem {next}.",
    ),
    "hi": Phrases(
        called="{language} में {thing} को {name} कहते हैं।",
        today="आज {date} है।",
        tomorrow="{day} के बाद {next} आता है।",
        spelled="संख्या {number} को शब्दों में {words} लिखते हैं।",
        read="{words} को अंकों में {number} लिखते हैं।",
        costs="इसकी कीमत {price} है।",
        measures="यह कुल {amount} है।",
        follows="{number} के बाद {next} आता है।",
    ),
    "es": Phrases(
        called="En {language}, {thing} se dice {name}.",
        today="Hoy es {date}.",
        tomorrow="Después de {day} viene {next}.",
        spelled="El número {number} se escribe {words}.",
        read="En cifras, {words} se escribe {number}.",
        costs="Cuesta {price}.",
        measures="En total son {amount}.",
        follows="Después de {number} viene {next}.",
    ),
    "th": Phrases(
        called="ในภาษา{language} {thing} เรียกว่า {name}",
        today="วันนี้คือ{date}",
        tomorrow="หลังจาก{day}คือ{next}",
        spelled="จำนวน {number} เขียนเป็นตัวหนังสือว่า {words}",
        read="{words} เขียนเป็นตัวเลขว่า {number}",
        costs="ราคา {price}",
        measures="รวมเป็น {amount}",
        follows="ถัดจาก {number} คือ {next}",
    ),
}


def language_document(index: int, *, seed: int, held_out: bool = False) -> Document:
    """Generate document number `index` of a seed; the languages take turns."""
    side = "heldout" if held_out else "train"
    code = LANGUAGES[index % len(LANGUAGES)]
    rng = random.Random(f"languages/{seed}/{side}/{index}")
    kinds = _NUMERIC if held_out else (*_NUMERIC, *_NAMED)
    kind = rng.choice(kinds)
    lines = [kind(rng, code, held_out) for _ in range(_LINES_PER_DOCUMENT)]
    return Document(
        text="\n".join(dict.fromkeys(lines)) + "\n",
        id=f"languages/{side}/{index:06d}",
        source="multilingual",
        language=code,
    )


def _draw(rng: random.Random, held_out: bool, digits: int = 4) -> int:
    """Draw a number on the given side of the held-out rule; small ones are frequent."""
    while True:
        number = rng.randrange(10 ** rng.randint(1, digits))
        if held_out_number(number) is held_out:
            return number


def _words(rng: random.Random, code: str, held_out: bool) -> str:
    n = _draw(rng, held_out)
    words, phrases = number_words(n, code), PHRASES[code]
    match rng.randrange(4):
        case 0:
            return phrases.spelled.format(number=n, words=words)
        case 1:
            return phrases.read.format(number=n, words=words)
        case 2:
            return f"{n} = {words}"
        case _:
            return f"{words}: {n}"


def _counting(rng: random.Random, code: str, held_out: bool) -> str:
    """A number and its successor in words; in training both are free, held out the first is not."""
    while True:
        n = _draw(rng, held_out, digits=3)
        if held_out or not held_out_number(n + 1):
            break
    return PHRASES[code].follows.format(
        number=number_words(n, code), next=number_words(n + 1, code)
    )


def _date(rng: random.Random, code: str, held_out: bool) -> str:
    from babel.dates import format_date

    while True:
        day = rng.randint(_FIRST_DAY, _LAST_DAY)
        if held_out_number(day) is held_out:
            break
    date = datetime.date.fromordinal(day)
    full = format_date(date, "full", locale=code)
    if rng.random() < 0.5:
        return PHRASES[code].today.format(date=full)
    return f"{date.isoformat()}: {full}"


def _unit(rng: random.Random, code: str, held_out: bool) -> str:
    from babel.units import format_unit

    n = _draw(rng, held_out)
    while True:
        length: Literal["long", "short"] = rng.choice(("long", "short"))
        unit = rng.choice(_UNITS)
        amount = format_unit(n, unit, length=length, locale=code)
        if unit not in amount:  # babel falls back on the key where a language lacks the unit
            break
    return PHRASES[code].measures.format(amount=_plain(amount).rstrip("."))


def _price(rng: random.Random, code: str, held_out: bool) -> str:
    from babel.numbers import format_currency

    n, currency = _draw(rng, held_out), rng.choice(_CURRENCIES)
    style: Literal["name", "standard"] = "name" if rng.random() < 0.7 else "standard"
    price = format_currency(n, currency, locale=code, format_type=style, currency_digits=False)
    return PHRASES[code].costs.format(price=_plain(price))


def _ago(rng: random.Random, code: str, held_out: bool) -> str:
    from babel.dates import format_timedelta

    n = _draw(rng, held_out, digits=3)
    unit: Literal["second", "minute", "hour", "day"] = rng.choice(
        ("second", "minute", "hour", "day")
    )
    span = datetime.timedelta(seconds=n) * _SECONDS[unit] * rng.choice((-1, 1))
    text = format_timedelta(
        span, granularity=unit, threshold=10**9, add_direction=True, locale=code
    )
    return _plain(text)


def _territory(rng: random.Random, code: str, held_out: bool) -> str:
    return _translation(rng, code, "territories")


def _language(rng: random.Random, code: str, held_out: bool) -> str:
    return _translation(rng, code, "languages")


def _translation(rng: random.Random, code: str, table: str) -> str:
    """In this language: how another language calls a country or a language; or a plain pair."""
    key = rng.choice(_shared_keys(table))
    other = rng.choice([each for each in LANGUAGES if each != code])
    here, there = (str(getattr(_locale(each), table)[key]) for each in (code, other))
    if rng.random() < 0.4:
        return f"{here} ({code}) = {there} ({other})"
    name = str(_locale(code).languages[other])
    if code == "th":
        name = name.removeprefix("ภาษา")
    return PHRASES[code].called.format(language=name, thing=here, name=there)


def _dictionary(rng: random.Random, code: str, held_out: bool) -> str:
    """One name in four languages, this one first."""
    table = rng.choice(("territories", "languages", "currencies"))
    key = rng.choice(_shared_keys(table))
    others = rng.sample([each for each in LANGUAGES if each != code], 3)
    return " | ".join(f"{each}: {getattr(_locale(each), table)[key]}" for each in (code, *others))


def _calendar(rng: random.Random, code: str, held_out: bool) -> str:
    """The order of days and months, and what other languages call them."""
    names = _locale(code).days if rng.random() < 0.5 else _locale(code).months
    which = "days" if names is _locale(code).days else "months"
    wide = names["stand-alone"]["wide"]
    first = rng.choice(sorted(wide))
    after = first % 7 if which == "days" else first % 12
    following = wide[(first + 1) % 7] if which == "days" else wide[after + 1]
    if rng.random() < 0.5:
        return PHRASES[code].tomorrow.format(day=wide[first], next=following)
    other = rng.choice([each for each in LANGUAGES if each != code])
    there = getattr(_locale(other), which)["stand-alone"]["wide"][first]
    return f"{wide[first]} ({code}) = {there} ({other})"


def _list(rng: random.Random, code: str, held_out: bool) -> str:
    from babel.lists import format_list

    names = rng.sample(_shared_keys("territories"), rng.randint(2, 4))
    listed = format_list([_locale(code).territories[key] for key in names], locale=code)
    return f"{listed}{_STOPS.get(code, '.')}"


_NUMERIC: tuple[Callable[[random.Random, str, bool], str], ...] = (
    _words,
    _words,
    _words,
    _words,
    _counting,
    _date,
    _unit,
    _price,
    _ago,
)
_NAMED = (_territory, _language, _dictionary, _calendar, _list)

_STOPS = {"hi": "।", "th": ""}
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_CURRENCIES = ["EUR", "USD", "GBP", "JPY", "INR", "THB", "BRL", "MXN", "CHF", "CNY"]
_UNITS = [
    "length-meter",
    "length-kilometer",
    "length-centimeter",
    "mass-kilogram",
    "mass-gram",
    "volume-liter",
    "duration-second",
    "duration-minute",
    "duration-hour",
    "duration-day",
    "duration-week",
    "duration-month",
    "duration-year",
    "temperature-celsius",
    "speed-kilometer-per-hour",
    "area-square-meter",
    "digital-byte",
    "digital-megabyte",
    "power-watt",
    "energy-joule",
]


@cache
def _locale(code: str) -> Any:
    try:
        from babel import Locale
    except ImportError as error:
        raise ExtraError(
            "text in eight languages needs the extra `seed`: pip install 'puna[seed]'."
        ) from error
    return Locale(code)


@cache
def _shared_keys(table: str) -> list[str]:
    """Keys that every language names, sorted; numeric regions and rare languages are left out."""
    keys = set.intersection(*(set(getattr(_locale(code), table)) for code in LANGUAGES))
    return sorted(key for key in keys if len(key) == (3 if table == "currencies" else 2))


def _plain(text: str) -> str:
    """Write the unbreakable spaces of CLDR patterns as plain ones."""
    return text.replace("\u202f", " ").replace("\xa0", " ")
