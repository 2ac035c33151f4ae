"""Dates as Llama 3.1's system headers write them, in English whatever the machine's locale is."""

from datetime import date

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)

# Both are constants of the published chat template of Llama 3.1 8B Instruct.
KNOWLEDGE_DATE = "December 2023"
FALLBACK_DATE = "26 Jul 2024"


def short_date(day: date) -> str:
    """`05 Mar 2025`, as the published template writes it (`%d %b %Y`)."""
    return f"{day.day:02} {_MONTHS[day.month - 1][:3]} {day.year:04}"


def long_date(day: date) -> str:
    """`05 March 2025`, as Meta's own system prompts write it (`%d %B %Y`)."""
    return f"{day.day:02} {_MONTHS[day.month - 1]} {day.year:04}"
