"""Compiles and runs chat templates, and says in one sentence what goes wrong with them.

Templates come with model folders, so they are other people's programs: `puna.chat.bounded` gives
them no attribute with an underscore, no way to change what they are given, and a bounded number of
steps and characters.

Source: transformers, chat templates (names and settings of the environment, no code).
"""

import functools
import json
import re
import threading
from datetime import date, datetime
from typing import Any

import jinja2

from puna.chat.bounded import BoundedEnvironment
from puna.errors import ConfigError, RequestError

_MAX_TEMPLATE = 1_000_000  # characters; the longest published ones have about 20,000
_TIME_FORMAT = re.compile(r"([^%]|%-?[A-Za-z%])*")

# What a template's own expressions can raise while it runs.
_FAILURES = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
)


class ChatTemplate:
    """A compiled template, which renders one dialog at a time."""

    def __init__(self, text: str) -> None:
        self._environment = BoundedEnvironment(
            filters={"tojson": _tojson},
            functions={"raise_exception": _raise_exception, "strftime_now": self._strftime_now},
        )
        self._template = self._environment.from_string(text)
        self._lock = threading.Lock()
        self._day: date | None = None

    def run(self, day: date | None, variables: dict[str, Any]) -> str:
        """Render; `day` is what the template takes for today.

        Raises:
            RequestError: the template refuses the dialog, or cannot handle it.
        """
        try:
            with self._lock:
                self._day = day
                self._environment.meter.start(variables)
                return self._template.render(variables)
        except _FAILURES as error:
            reason = str(error).rstrip(".")
            raise RequestError(
                f"chat template: {reason}. Change the messages, or use another dialect."
            ) from error

    def _strftime_now(self, form: str) -> str:
        """Write the time; its day can be fixed, so that training data is reproducible."""
        if len(form) > 100 or not _TIME_FORMAT.fullmatch(form):
            raise jinja2.TemplateError(f"{form[:40]!r} is no format of a time")
        moment = datetime.combine(self._day, datetime.min.time()) if self._day else datetime.now()
        return moment.strftime(form)


# Compiling takes longer than rendering, and a format is made anew for every request.
@functools.lru_cache(maxsize=16)
def compile_template(text: str) -> ChatTemplate:
    """Compile a chat template.

    Raises:
        ConfigError: the text is no valid template.
    """
    if len(text) > _MAX_TEMPLATE:
        raise ConfigError(
            f"chat template: {len(text)} characters; at most {_MAX_TEMPLATE} are expected. "
            "Choose the dialect 'meta' or 'hf'."
        )
    try:
        return ChatTemplate(text)
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(
            f"chat template, line {error.lineno}: {error.message}; a jinja template is expected. "
            "Correct it, or choose the dialect 'meta' or 'hf'."
        ) from None
    except (RecursionError, MemoryError, SyntaxError):
        raise ConfigError(
            "chat template: it is nested too deeply to be compiled; a jinja template is expected. "
            "Choose the dialect 'meta' or 'hf'."
        ) from None


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without jinja's escapes for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
