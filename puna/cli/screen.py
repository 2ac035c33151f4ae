"""What may reach a terminal: a model's text, without the codes that would command the terminal.

Two screens show a conversation: one with colours for a person, one for a pipe, where stdout holds
the answers and notes go to stderr.
"""

import sys

# Control characters but tab and newline, C1 among them: ESC would start a command.
_COMMANDS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}


def printable(text: str) -> str:
    """Return the text without control characters that a terminal obeys."""
    return text.translate(_COMMANDS)


class TerminalScreen:
    """Shows answers as they stream, and what is not part of the dialog dimmed."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._is_inside = False  # whether the cursor stands inside a line

    def text(self, piece: str) -> None:
        """Show a piece of an answer."""
        shown = printable(piece)
        if shown:
            self._console.print(shown, end="", style="cyan")
            self._is_inside = not shown.endswith("\n")

    def note(self, line: str) -> None:
        """Show a line dimmed."""
        self.end()
        self._console.print(printable(line), style="dim")

    def end(self) -> None:
        """Return to the start of a line."""
        if self._is_inside:
            self._console.print()
        self._is_inside = False


class PipeScreen:
    """Writes answers to stdout, one after the other, and notes to stderr."""

    def text(self, piece: str) -> None:
        """Write a piece of an answer at once, as UTF-8 whatever the locale says."""
        sys.stdout.buffer.write(piece.encode())
        sys.stdout.buffer.flush()

    def note(self, line: str) -> None:
        """Write a line to stderr."""
        print(line, file=sys.stderr, flush=True)

    def end(self) -> None:
        """End the answer's line: every message of the input has its own, be it empty."""
        self.text("\n")
