"""What a chat template may spend: steps and characters are counted before they are used.

A template is somebody else's program. Jinja's sandbox keeps it from running code, but not from
looping for days or from writing 'a' * 10**12. So every loop pass, call and operation pays for the
size of what it reads and makes, out of a budget that grows with the dialog. It is a count and no
clock: the same template and dialog fail, or do not, on every machine alike. `puna.chat.bounded`
places the payments.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import jinja2

# What published templates need, a hundred times over.
BASE = 500_000
PER_ITEM = 200
_CHARACTERS = 8  # that one step pays for
_MAX_BITS = 1024  # of an integer
_TOO_MUCH = "it takes more steps or memory than any dialog needs"
_SIZED = (list, tuple, dict, range)
_PLAIN = (str, int, float, range, type(None), jinja2.Undefined)


class TooMuchError(jinja2.TemplateError):
    """A template spent its budget, or asked for something whose cost is not bounded."""


class Meter:
    """The steps that are left."""

    def __init__(self) -> None:
        self.left = 0

    def start(self, variables: Mapping[str, Any]) -> None:
        """Fill up for one rendering."""
        self.left = 1 << 62
        before = self.left
        self.weigh(variables)
        self.left = BASE + PER_ITEM * (before - self.left)

    def pay(self, steps: int) -> None:
        """Take steps away.

        Raises:
            TooMuchError: there are not as many left.
        """
        self.left -= 1 + steps
        if self.left < 0:
            raise TooMuchError(_TOO_MUCH)

    def pay_text(self, characters: int) -> None:
        """Pay for text of a length before it is made."""
        self.left -= 1 + characters // _CHARACTERS
        if self.left < 0:
            raise TooMuchError(_TOO_MUCH)

    def look(self, value: Any) -> Any:
        """Pay for one value without looking into it, and return it."""
        steps = 1
        if isinstance(value, str):
            steps += len(value) // _CHARACTERS
        elif isinstance(value, _SIZED):
            steps += len(value)
        elif isinstance(value, int) and value.bit_length() > _MAX_BITS:
            raise TooMuchError(f"a number of {value.bit_length()} bits")
        self.left -= steps
        if self.left < 0:
            raise TooMuchError(_TOO_MUCH)
        return value

    def weigh(self, value: Any) -> Any:
        """Pay for a value and all that is inside it, and return it.

        A list that holds another one twice, which holds a third twice, and so on, is small in
        memory and endless as text; so it is weighed as the text that it would become.
        """
        if isinstance(value, str):
            return self.look(value)
        waiting = [value]
        while waiting:
            item = waiting.pop()
            self.look(item)
            if isinstance(item, dict):
                waiting += item
                waiting += item.values()
            elif isinstance(item, (list, tuple)):
                waiting += item
            elif not isinstance(item, _PLAIN):
                raise TooMuchError(f"a {type(item).__name__} stands where a value is expected")
        return value

    def weigh_indented(self, value: Any, indent: object) -> None:
        """Pay for the white space of JSON with line breaks."""
        if not isinstance(indent, int) or not 0 <= indent <= 16:
            raise TooMuchError(f"tojson with indent={indent!r}")
        waiting = [(value, 1)]
        while waiting:
            item, depth = waiting.pop()
            self.pay_text(indent * depth)
            if isinstance(item, dict):
                waiting += ((inner, depth + 1) for inner in item.values())
            elif isinstance(item, (list, tuple)):
                waiting += ((inner, depth + 1) for inner in item)

    def listed(self, value: Any) -> Any:
        """Return what yields its items later as a list: nothing may be spent unseen."""
        if isinstance(value, str | list | tuple | dict | range) or not isinstance(value, Iterable):
            return value
        if isinstance(value, jinja2.Undefined):
            return value
        items = []
        for item in value:
            self.pay(0)
            items.append(item)
        return items
