"""A tool call and its result as a person reads them: short, and code as code.

The model is shown all of a result that its limit allows; the terminal shows the beginning.
"""

import re
from collections.abc import Sequence

from puna.chat.declared import CODE_INTERPRETER
from puna.chat.messages import ToolCall
from puna.tools.tool import Tool

MAX_LINES = 12  # of one result
MAX_VALUE = 300  # characters of one argument, and of one line of a result

# The frame of the code interpreter (puna.tools.sandbox.outcome).
_PART = re.compile(r"^\[(stdout|stderr|files)\](.*?)\[/\1\]$\n?", re.DOTALL | re.MULTILINE)


def call_text(call: ToolCall) -> str:
    """Write a call: `name(query="12 * 34")`, or the code that is to run."""
    code = call.arguments.get("code")
    if call.name == CODE_INTERPRETER and isinstance(code, str):
        return "\n".join([f"{call.name}:", *_barred(code.strip("\n").split("\n"))])
    given = ", ".join(f"{key}={_short(repr(value))}" for key, value in call.arguments.items())
    return f"{call.name}({given})"


def result_text(call: ToolCall, result: str) -> str:
    """Write a result behind `=`; of the code interpreter's frame what was printed is left."""
    if call.name == CODE_INTERPRETER:
        result = _unframed(result)
    lines = result.rstrip("\n").split("\n")
    shown = [_short(line) for line in lines[:MAX_LINES]]
    if len(lines) > MAX_LINES:
        shown.append(f"... {len(lines) - MAX_LINES} more lines")
    return "\n".join(f"{'  ' if place else '= '}{line}" for place, line in enumerate(shown))


def tools_text(tools: Sequence[Tool]) -> str:
    """List the tools with what they do."""
    if not tools:
        return "The model has no tools here; --tools gives it some (puna chat --help)."
    width = max(len(tool.name) for tool in tools)
    return "\n".join(_listed(tool, width) for tool in tools)


def _listed(tool: Tool, width: int) -> str:
    first, _, _ = tool.description.strip().partition("\n")
    asks = " (asks before each call)" if tool.needs_consent else ""
    return f"{tool.name:{width}}  {_short(first, 100)}{asks}"


def _unframed(result: str) -> str:
    """Leave out `completed` and the marks of the streams where something was printed."""
    head, _, rest = result.partition("\n")
    printed = _PART.sub(_said, rest).strip("\n")
    if head == "completed":
        return printed or "(nothing was printed)"
    return f"{head}\n{printed}" if printed else head


def _said(part: re.Match[str]) -> str:
    return f"{'wrote ' if part[1] == 'files' else ''}{part[2].rstrip()}\n"


def _barred(lines: Sequence[str]) -> list[str]:
    return [f"  | {line}" for line in lines]


def _short(text: str, limit: int = MAX_VALUE) -> str:
    return text if len(text) <= limit else f"{text[:limit]}..."
