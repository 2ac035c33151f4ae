"""Questions about dates: how far apart, so many days later, which day of the week.

The calendar is the Gregorian one, also before it was introduced; years run from 1 to 9999.
"""

import calendar
import datetime
import re
from collections.abc import Callable, Mapping

from puna.errors import RequestError
from puna.tools.compute.answer import Pod, interpreted, result

_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_name) if name}
_MONTHS |= {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_MONTHS["sept"] = 9
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_DATE = (
    r"(?:today|now|tomorrow|yesterday|\d{4}-\d{1,2}-\d{1,2}|\d{1,2}/\d{1,2}/\d{4}"
    rf"|(?:{_MONTH})\.? {_DAY},? \d{{1,4}}|{_DAY} (?:of )?(?:{_MONTH})\.?,? \d{{1,4}})"
)
_FORMS = (
    r"(?P<y>\d{4})-(?P<m>\d{1,2})-(?P<d>\d{1,2})",
    r"(?P<m>\d{1,2})/(?P<d>\d{1,2})/(?P<y>\d{4})",  # as in the United States
    rf"(?P<m>{_MONTH})\.? (?P<d>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<y>\d{{1,4}})",
    rf"(?P<d>\d{{1,2}})(?:st|nd|rd|th)? (?:of )?(?P<m>{_MONTH})\.?,? (?P<y>\d{{1,4}})",
)
_SPAN = r"(?P<count>\d{1,7}|an?|one) (?P<unit>day|week|month|year)s?"

_Given = Mapping[str, str]


def answer(question: str, today: datetime.date | None = None) -> list[Pod] | None:
    """Answer a question about dates, or return None where it is none."""
    now = today or datetime.date.today()
    for pattern, compute in _QUESTIONS.items():
        if match := re.fullmatch(pattern, question, re.IGNORECASE):
            return compute({name: value or "" for name, value in match.groupdict().items()}, now)
    return None


def parse_date(text: str, today: datetime.date) -> datetime.date:
    """Read a date in one of the forms that people write.

    Raises:
        RequestError: there is no such date.
    """
    near = {"today": 0, "now": 0, "tomorrow": 1, "yesterday": -1}
    if text.lower() in near:
        return today + datetime.timedelta(days=near[text.lower()])
    for form in _FORMS:
        if match := re.fullmatch(form, text, re.IGNORECASE):
            month = _MONTHS.get(match["m"].lower()) or int(match["m"])
            try:
                return datetime.date(int(match["y"]), month, int(match["d"]))
            except ValueError as error:
                raise RequestError(f"there is no date {text} ({error}).") from error
    raise RequestError(f"'{text[:40]}' is no date; 2024-02-29 or February 29, 2024 is expected.")


def _between(given: _Given, today: datetime.date) -> list[Pod]:
    first = parse_date(given.get("first") or "today", today)
    second = parse_date(given.get("second") or "today", today)
    days = (second - first).days
    weeks, rest = divmod(abs(days), 7)
    pods = [interpreted(f"days from {_long(first)} to {_long(second)}"), result(_days(days))]
    if weeks:
        pods.append(Pod(title="Weeks", text=f"{weeks} weeks and {_days(rest)}"))
    return pods


def _shift(given: _Given, today: datetime.date) -> list[Pod]:
    start = parse_date(given["date"] or "today", today)
    count = int(given["count"]) if given["count"].isdigit() else 1
    word = given["direction"].lower()
    signed = -count if word in ("before", "-", "minus", "ago") else count
    unit = given["unit"].lower()
    try:
        end = _moved(start, signed, unit)
    except (ValueError, OverflowError) as error:
        raise RequestError("the date would lie outside the years 1 to 9999.") from error
    sign = "-" if signed < 0 else "+"
    asked = f"{_long(start)} {sign} {count} {unit}{'s' if count != 1 else ''}"
    return [interpreted(asked), result(_long(end))]


def _moved(start: datetime.date, count: int, unit: str) -> datetime.date:
    """Move a date; where a month is too short, its last day is taken."""
    if unit in ("day", "week"):
        return start + datetime.timedelta(days=count * (7 if unit == "week" else 1))
    months = start.year * 12 + start.month - 1 + count * (12 if unit == "year" else 1)
    year, month = divmod(months, 12)
    if not 1 <= year <= 9999:
        raise ValueError("outside the calendar")
    last = calendar.monthrange(year, month + 1)[1]
    return datetime.date(year, month + 1, min(start.day, last))


def _weekday(given: _Given, today: datetime.date) -> list[Pod]:
    date = parse_date(given["date"], today)
    day = date.timetuple().tm_yday
    return [
        interpreted(date.isoformat()),
        result(_long(date)),
        Pod(title="Day of the year", text=str(day)),
        Pod(title="Distance from today", text=f"{_days((date - today).days)}"),
    ]


def _leap(given: _Given, today: datetime.date) -> list[Pod]:
    year = int(given["year"])
    verdict = "is a leap year" if calendar.isleap(year) else "is not a leap year"
    return [interpreted(f"is {year} a leap year?"), result(f"{year} {verdict}")]


def _long(date: datetime.date) -> str:
    names = calendar.day_name[date.weekday()], calendar.month_name[date.month]
    return f"{names[0]}, {names[1]} {date.day}, {date.year}"


def _days(count: int) -> str:
    return f"{count:,} day{'' if abs(count) == 1 else 's'}"


_QUESTIONS: Mapping[str, Callable[[_Given, datetime.date], list[Pod]]] = {
    r"(?:(?:number of |how many )?days )?(?:are (?:there )?)?(?:between|from) "
    rf"(?P<first>{_DATE}) (?:and|to|until|till) (?P<second>{_DATE})(?: in days)?": _between,
    rf"(?:(?:number of |how many )?days )(?:until|till|to) (?P<second>{_DATE})": _between,
    rf"(?:(?:number of |how many )?days )since (?P<first>{_DATE})": _between,
    rf"{_SPAN} (?P<direction>after|before|from) (?P<date>{_DATE})": _shift,
    rf"(?P<date>){_SPAN} (?P<direction>ago)": _shift,
    rf"(?P<direction>)(?P<date>)in {_SPAN}": _shift,
    rf"(?P<date>{_DATE}) ?(?P<direction>\+|-|plus|minus) ?{_SPAN}": _shift,
    r"(?:(?:which|what) )?(?:day of the week|day|weekday)?(?: of the week)? ?"
    rf"(?:is |was |will be |on )?(?P<date>{_DATE})(?: be)?": _weekday,
    r"(?:is |was )?(?P<year>\d{1,4}) (?:be )?a leap year": _leap,
}
