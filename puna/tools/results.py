"""What a tool returned, as the text that the model reads."""

import dataclasses
import datetime
import enum
import json
from collections.abc import Set
from typing import Any


def as_text(value: Any) -> str:
    """Write what a tool returned: text as it is, everything else as JSON."""
    if isinstance(value, str) and not isinstance(value, enum.Enum):
        return value
    return json.dumps(value, ensure_ascii=False, default=plain)


def plain(value: Any) -> Any:
    """Say in JSON's terms what JSON does not know (the `default` of `json.dumps`)."""
    match value:
        case enum.Enum():
            return value.value
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case Set():
            return sorted(value, key=str)
        case bytes():
            return value.decode(errors="replace")
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        case _ if hasattr(value, "model_dump"):  # pydantic
            return value.model_dump(mode="json")
        case _ if hasattr(value, "tolist"):  # numpy, torch
            return value.tolist()
        case _:
            return str(value)
