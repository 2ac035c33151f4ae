"""One line of `metrics.jsonl` for each step, and no line twice after a resume."""

import json
import math
from pathlib import Path
from typing import Any

from puna.files import write_text


class Meter:
    """Appends metrics of one stage; lines at or after the restored step are dropped first."""

    def __init__(self, path: Path, *, stage: str, resumed_at: int) -> None:
        self.path, self.stage = path, stage
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            kept = [
                line for line in path.read_text().splitlines() if self._is_earlier(line, resumed_at)
            ]
            write_text(path, "".join(line + "\n" for line in kept))
        self._file = path.open("a", encoding="utf-8")

    def write(self, *, step: int, **values: float) -> None:
        """Append one step's values; numbers that are not finite are written as null."""
        finite = {k: v if math.isfinite(v) else None for k, v in values.items()}
        self._file.write(json.dumps({"stage": self.stage, "step": step, **finite}) + "\n")
        self._file.flush()

    def __enter__(self) -> "Meter":
        return self

    def __exit__(self, *failure: object) -> None:
        self._file.close()

    def _is_earlier(self, line: str, step: int) -> bool:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            return False  # the last line of a killed run may be cut
        return bool(row["stage"] != self.stage or row["step"] <= step)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return every whole line of a metrics file; the last one of a killed run may be cut."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
