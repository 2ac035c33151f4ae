"""A chat template's environment: jinja in its sandbox, with what transformers offers a template.

Templates come with model folders, so they are other people's programs: the sandbox gives them no
attribute with an underscore and no way to change what they are given.

Source: transformers, chat templates (names and settings of the environment, no code).
"""

import json
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from puna.errors import ConfigError, RequestError

# What a template's own expressions can raise while it runs.
_FAILURES = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)


class _GenerationBlocks(jinja2.ext.Extension):
    """`{% generation %}` marks the assistant's part for other renderers; its body is rendered."""

    tags = {"generation"}  # noqa: RUF012  (declared so by jinja2)

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


def compile_template(text: str) -> jinja2.Template:
    """Compile a chat template.

    Raises:
        ConfigError: the text is no valid template.
    """
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[jinja2.ext.loopcontrols, _GenerationBlocks],
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    try:
        return environment.from_string(text)
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(
            f"chat template, line {error.lineno}: {error.message}; a jinja template is expected. "
            "Correct it, or choose the dialect 'meta' or 'hf'."
        ) from None


def run_template(template: jinja2.Template, day: date | None, **variables: Any) -> str:
    """Run a compiled template; `day` is what it takes for today.

    Raises:
        RequestError: the template refuses the dialog, or cannot handle it.
    """
    try:
        return template.render(strftime_now=_clock(day), **variables)
    except _FAILURES as error:
        reason = str(error).rstrip(".")
        raise RequestError(
            f"chat template: {reason}. Change the messages, or use another dialect."
        ) from error


def _clock(day: date | None) -> Callable[[str], str]:
    """Return the template's clock; its day can be fixed, so that training data is reproducible."""

    def strftime_now(form: str) -> str:
        moment = datetime.combine(day, datetime.min.time()) if day else datetime.now()
        return moment.strftime(form)

    return strftime_now


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
