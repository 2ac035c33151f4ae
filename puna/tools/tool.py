"""A tool: a name the model may call, and the function that answers the call."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One thing that a model may call.

    A built-in is called by the name alone, `name.call(query="...")`; any other tool is a function
    that is shown to the model with the JSON Schema of its parameters.
    """

    name: str
    description: str
    call: Callable[[dict[str, Any]], str]
    is_builtin: bool = False
    parameters: Schema = field(default_factory=lambda: {"type": "object", "properties": {}})

    @property
    def declaration(self) -> str | dict[str, Any]:
        """The tool as `ChatFormat.render` and `ChatFormat.parse` take it."""
        if self.is_builtin:
            return self.name
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.parameters),
        }
        return {"type": "function", "function": function}
