"""Typed look-ups in somebody else's configuration, so that nothing in it goes unnoticed.

`config.json`, `params.json` and GGUF metadata are all read through `Facts`: each look-up checks the
value's type, and `refuse_rest` stops on every key that no look-up asked for and that is not known
to be without effect on what the model computes.
"""

import json
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from puna.config import refuse_unknown_keys
from puna.errors import ConfigError, FormatError, NotFoundError

Built = TypeVar("Built")

_LARGEST = 2**31  # no size of a model comes near; larger numbers are damage

# Stands for "no default": the key must be there.
REQUIRED: Any = object()


class Facts:
    """A table of foreign facts that remembers which of them were used."""

    def __init__(self, table: Mapping[str, Any], *, where: str) -> None:
        self.table, self.where = table, where
        self._used: set[str] = set()

    def value(self, key: str) -> Any:
        """Return a raw value, or None where the key is absent or null."""
        self._used.add(key)
        return self.table.get(key)

    def integer(self, key: str, default: Any = REQUIRED) -> int:
        """Return a positive integer."""
        value = self._or_default(key, default)
        if type(value) is not int or not 1 <= value <= _LARGEST:
            raise self._wrong(key, value, "a positive integer")
        return value

    def number(self, key: str, default: Any = REQUIRED) -> float:
        """Return a positive finite number."""
        value = self._or_default(key, default)
        if type(value) not in (int, float) or not (0 < value < math.inf):
            raise self._wrong(key, value, "a positive number")
        return float(value)

    def flag(self, key: str, default: Any = REQUIRED) -> bool:
        """Return true or false."""
        value = self._or_default(key, default)
        if type(value) is not bool:
            raise self._wrong(key, value, "true or false")
        return value

    def must_be(self, key: str, *allowed: Any) -> None:
        """Stop unless the value, where it is given, is one of those that puna computes."""
        value = self.value(key)
        if value is not None and not any(
            value == choice and type(value) is type(choice) for choice in allowed
        ):
            names = " or ".join(json.dumps(choice) for choice in allowed)
            raise self._wrong(key, value, f"{names}, which is all that puna computes")

    def build(self, cls: Callable[..., Built], **values: Any) -> Built:
        """Construct a config and name this file where its own checks fail."""
        try:
            return cls(**values)
        except ConfigError as error:
            raise ConfigError(f"{self.where}: {error}") from error

    def refuse_rest(self, harmless: Collection[str] = ()) -> None:
        """Stop on a key that nobody looked at; null values mean that a feature is off."""
        known = self._used | set(harmless)
        given = [key for key, value in self.table.items() if value is not None]
        refuse_unknown_keys(given, known, where=self.where)

    def _or_default(self, key: str, default: Any) -> Any:
        value = self.value(key)
        if value is not None:
            return value
        if default is REQUIRED:
            raise ConfigError(
                f"{self.where}: '{key}' is missing; the model's shape depends on it. Add it."
            )
        return default

    def _wrong(self, key: str, value: Any, expected: str) -> ConfigError:
        return ConfigError(f"{self.where}: {key}={value!r} was given; {expected} is expected.")


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        NotFoundError: the file does not exist.
        FormatError: it is not JSON, or not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no such file; the model folder is incomplete.") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{path}: this is not valid JSON ({error}). Download it again."
        ) from error
    if not isinstance(value, dict):
        raise FormatError(f"{path}: a list or a plain value was found; an object is expected.")
    return value
