"""puna's parser as a program: one answer a line on stdin, what it found a line on stdout.

It shows what `puna conformance --parser` expects of any program, and tests run it that way:
`puna conformance --parser "python -m puna.evals.conformance.parser_stdin"`.
"""

import json
import sys
from typing import Any, TextIO

from puna.evals.conformance.parsers import OwnParser, Parsed, Said
from puna.evals.conformance.segments import from_json


def main(lines: TextIO = sys.stdin, out: TextIO = sys.stdout) -> None:
    """Answer every line."""
    parser = OwnParser()
    for line in lines:
        (parsed,) = parser.parse([_said(json.loads(line))])
        assert isinstance(parsed, Parsed)
        row = {
            "content": parsed.content,
            "tool_calls": [{"name": name, "arguments": found} for name, found in parsed.calls],
            "finish_reason": parsed.finish_reason,
        }
        out.write(json.dumps(row, ensure_ascii=False) + "\n")


def _said(row: dict[str, Any]) -> Said:
    chunks = row.get("chunks")
    return Said(
        id=row["id"],
        answer=from_json(row["answer"]),
        chunks=None if chunks is None else tuple(from_json(chunk) for chunk in chunks),
        tools=tuple(row["tools"]),
        builtin_tools=tuple(row["builtin_tools"]),
    )


if __name__ == "__main__":
    sys.stdin.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    main()
