"""One call of the model, from its name to the text that the model reads.

In order: the tool must exist, the arguments must fit its schema, a person must agree where the tool
asks for it, and it must end in time. Whatever goes wrong on the way is a text to the model, which
can correct itself; nothing here ends the dialog but Ctrl-C.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from puna.chat.messages import ToolCall
from puna.errors import PunaError, RequestError
from puna.log import logger
from puna.tools.running import run_within
from puna.tools.schema import check_arguments, read_quoted
from puna.tools.tool import Tool

MAX_STEPS = 8  # answers of the model in one turn
MAX_OUTPUT = 16_000  # characters of one tool's result that the model is shown
TIMEOUT_S = 60.0  # seconds of one call, for tools that name no limit of their own

_ERROR = "error:"
_LONGEST_REASON = 500  # characters of an exception that the model is shown

Consent = Callable[[ToolCall, Tool], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one turn may cost.

    Raises:
        RequestError: a limit is not positive.
    """

    max_steps: int = MAX_STEPS  # how often the model may speak
    max_output: int = MAX_OUTPUT  # characters of one result
    timeout: float | None = TIMEOUT_S  # None: for ever, in the caller's own thread

    def __post_init__(self) -> None:
        if self.max_steps < 1 or self.max_output < 1:
            raise RequestError(
                f"run_tools: max_steps={self.max_steps} and max_output={self.max_output} given; "
                "at least 1 is expected of both."
            )
        if self.timeout is not None and not self.timeout > 0:
            raise RequestError(
                f"run_tools: timeout={self.timeout} given; seconds above 0 are expected, "
                "or None for no limit."
            )


def execute(
    call: ToolCall, tools: Mapping[str, Tool], limits: Limits, consent: Consent | None
) -> tuple[str, bool]:
    """Return the result as the model reads it, and whether it tells of a failure."""
    try:
        result = _run(call, tools, limits, consent)
    except PunaError as error:
        result = f"{_ERROR} {_line(error)}"
    except (Exception, SystemExit) as error:  # a worker: tools are other people's code
        logger.warning("tool %s failed", call.name, exc_info=True)
        reason = f": {_line(error)}" if str(error) else ""
        result = f"{_ERROR} {call.name} failed with {type(error).__name__}{reason}"
    return shortened(result, limits.max_output), result.startswith(_ERROR)


def shortened(result: str, limit: int) -> str:
    """Keep the beginning of a long result and say how much is missing."""
    result = result.encode(errors="replace").decode()  # no half of a surrogate pair
    if len(result) <= limit:
        return result
    return f"{result[:limit]}\n[{len(result) - limit} of {len(result)} characters left out]"


def _run(call: ToolCall, tools: Mapping[str, Tool], limits: Limits, consent: Consent | None) -> str:
    tool = tools.get(call.name)
    if tool is None:
        near = difflib.get_close_matches(call.name, tools, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        known = ", ".join(tools) or "none"
        raise RequestError(f"there is no tool {call.name!r}; the tools are: {known}.{hint}")
    arguments = read_quoted(call.arguments, tool.parameters)
    if (wrong := check_arguments(arguments, tool.parameters)) is not None:
        raise RequestError(f"{tool.name}: {wrong}")
    if tool.needs_consent:
        _require_consent(call, tool, consent)
    limit = limits.timeout if tool.timeout is None else tool.timeout
    return run_within(tool, arguments, limit)


def _require_consent(call: ToolCall, tool: Tool, consent: Consent | None) -> None:
    if consent is None:
        raise RequestError(
            f"{tool.name} needs the consent of a person, and nobody can be asked here."
        )
    if not consent(call, tool):
        raise RequestError(f"the person did not allow this call of {tool.name}.")


def _line(error: BaseException) -> str:
    """Write an exception in one line; its beginning says what is wrong."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."
