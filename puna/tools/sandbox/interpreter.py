"""The built-in tool `code_interpreter`: the model writes Python, the sandbox answers.

The session starts with the first call and lives as long as the tool, so variables stay from call
to call.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from puna.errors import RequestError
from puna.tools.sandbox.limits import Limits
from puna.tools.sandbox.session import GRACE_S, START_S, Session
from puna.tools.tool import Tool

NAME = "code_interpreter"
DESCRIPTION = (
    "Run Python code in a session that keeps its variables between calls. The value of the last "
    "expression is printed. Files are read and written in the current folder; there is no network."
)
PARAMETERS = {
    "type": "object",
    "properties": {"code": {"type": "string", "description": "Python code to run."}},
    "required": ["code"],
    "additionalProperties": False,
}


@contextmanager
def code_interpreter(
    folder: str | Path | None = None,
    limits: Limits | None = None,
    *,
    unprotected: bool = False,
) -> Iterator[Tool]:
    """Hold a session open and yield the tool that runs code in it.

    Args:
        folder: where the code reads and writes files; None makes a temporary one.
        limits: what the code may use.
        unprotected: run without walls where this machine lets none be built.
    Raises:
        StateError: no protection works on this machine.
    """
    with Session(folder, limits, unprotected=unprotected) as session:

        def call(arguments: dict[str, Any]) -> str:
            code = arguments.get("code")
            if not isinstance(code, str):
                raise RequestError(
                    f"{NAME}: {sorted(arguments)} given; the argument 'code' with a text is "
                    "expected. Call it with the Python code to run."
                )
            return session.run(code).text

        yield Tool(
            name=NAME,
            description=DESCRIPTION,
            call=call,
            is_builtin=True,
            parameters=PARAMETERS,
            timeout=session.limits.wall_s + GRACE_S + START_S,
            cancel=session.interrupt,
        )
