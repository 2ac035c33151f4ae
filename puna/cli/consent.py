"""The question before a call that needs a person's consent: yes, no, or always for this tool."""

from collections.abc import Callable

from puna.chat.messages import ToolCall
from puna.cli.screen import printable
from puna.tools.tool import Tool


class AskInTerminal:
    """Asks before each call and remembers the tools that may always run, for one chat.

    The call itself has been shown when the question comes.
    """

    def __init__(self, read_line: Callable[[str], str]) -> None:
        """Ask through a function that shows its argument and returns what is typed."""
        self._read_line = read_line
        self._always: set[str] = set()

    def __call__(self, call: ToolCall, tool: Tool) -> bool:
        """Return whether the call may run; the end of the input means no."""
        while tool.name not in self._always:
            question = f"Run {printable(tool.name)}? [y]es, [n]o, [a]lways: "
            try:
                answer = self._read_line(question).strip().lower()
            except EOFError:
                return False
            if answer in ("a", "always"):
                self._always.add(tool.name)
            elif answer in ("y", "yes"):
                return True
            elif answer in ("n", "no"):
                return False
        return True
