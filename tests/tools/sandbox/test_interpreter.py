"""The tool `code_interpreter`."""

import pytest

from puna.errors import RequestError
from puna.tools.sandbox.interpreter import code_interpreter
from tests.tools.sandbox.ways import any_way


def test_the_tool_keeps_its_variables() -> None:
    any_way()
    with code_interpreter() as tool:
        assert tool.name == "code_interpreter"
        assert tool.declaration == "code_interpreter"
        assert tool.call is not None
        assert tool.call({"code": "n = 20"}) == "completed"
        assert tool.call({"code": "print(n + 1)"}) == "completed\n[stdout]21\n[/stdout]"
        with pytest.raises(RequestError, match="the argument 'code'"):
            tool.call({"query": "1"})
