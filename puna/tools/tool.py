"""A tool: a name the model may call, and the function that answers the call.

Every kind of tool becomes this one class: Python functions (`puna.tools.function`), JSON Schemas,
the built-ins, the tools of an MCP server. The renderer reads its declaration, the loop calls it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from puna.errors import RequestError

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One thing that a model may call.

    A built-in is called by the name alone, `name.call(query="...")`; any other tool is a function
    that is shown to the model with the JSON Schema of its parameters. A tool without `call` is only
    declared: the model may ask for it, and whoever runs the dialog answers.
    """

    name: str
    description: str
    call: Callable[[dict[str, Any]], str] | None  # takes the arguments, returns what is shown
    is_builtin: bool = False
    parameters: Schema = field(default_factory=lambda: {"type": "object", "properties": {}})
    needs_consent: bool = False  # a person is asked before every call
    timeout: float | None = None  # seconds of one call; None takes the limit of the loop
    function: Callable[..., Any] | None = None  # what the tool was made from
    declared: Mapping[str, Any] | None = None  # the caller's own dictionary, shown as it is
    cancel: Callable[[], None] | None = None  # stops a running call, from another thread

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the tool from Python: the function itself where it was made from one."""
        if self.function is not None:
            return self.function(*args, **kwargs)
        if self.call is None or args:
            raise RequestError(
                f"tool {self.name}: "
                + ("it is declared and has no function; " if self.call is None else "")
                + "named arguments of a tool that runs are expected."
            )
        return self.call(kwargs)

    @property
    def declaration(self) -> str | dict[str, Any]:
        """The tool as `ChatFormat.render` and `ChatFormat.parse` take it."""
        if self.is_builtin:
            return self.name
        if self.declared is not None:
            return dict(self.declared)
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.parameters),
        }
        return {"type": "function", "function": function}
