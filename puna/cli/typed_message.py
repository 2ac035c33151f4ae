"""What a person types becomes one message, over several lines where they say so.

A line that ends with a backslash goes on in the next one; a block between lines of triple quotes is
taken as it stands. The lines come from the function given, so that a terminal, a pipe and a test
all read alike.
"""

from collections.abc import Callable

FENCE = '"""'
FIRST, NEXT = "> ", ". "  # shown before the first line and before those that follow


def read_message(read_line: Callable[[str], str]) -> str:
    """Return the next message.

    Args:
        read_line: shows its argument and returns a line without its newline.
    Raises:
        EOFError: there are no more lines.
    """
    line = read_line(FIRST)
    if line.lstrip().startswith(FENCE):
        return _read_block(line.lstrip().removeprefix(FENCE), read_line)
    lines = []
    while line.endswith("\\"):
        lines.append(line[:-1])
        try:
            line = read_line(NEXT)
        except EOFError:
            return "\n".join(lines)
    return "\n".join([*lines, line])


def _read_block(line: str, read_line: Callable[[str], str]) -> str:
    """Read up to the closing quotes, or to the end of the input."""
    lines: list[str] = []
    while FENCE not in line:
        lines.append(line)
        try:
            line = read_line(NEXT)
        except EOFError:
            return "\n".join(lines).strip("\n")
    lines.append(line[: line.index(FENCE)])
    return "\n".join(lines).strip("\n")
