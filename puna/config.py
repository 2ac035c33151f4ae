"""Dataclasses are the configuration: read from TOML, overridden by dotted keys, written back.

Every room declares its own frozen dataclass beside what it configures; a recipe's root dataclass
holds them. Order: defaults of the class, then the TOML file, then `--set a.b=value`. A key that no
class declares is an error that names the nearest one, because a typo must not cost a training run.
"""

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from puna.errors import ConfigError, NotFoundError

Config = TypeVar("Config")


def refuse_unknown_keys(given: Iterable[str], known: Collection[str], *, where: str) -> None:
    """Stop on a key the config does not have: a typo must not cost a training run."""
    for key in given:
        if key in known:
            continue
        near = difflib.get_close_matches(key, known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ConfigError(
            f"{where}: unknown key '{key}'.{hint} Known keys: {', '.join(sorted(known))}."
        )


def from_table(cls: type[Config], table: Mapping[str, Any], *, where: str) -> Config:
    """Build the dataclass `cls` from a nested table of TOML or JSON values.

    Raises:
        ConfigError: a key is unknown or missing, or a value has the wrong type.
    """
    return _build(cls, table, where, ())


def to_table(config: Any) -> dict[str, Any]:
    """Turn a dataclass tree into nested plain values; `None` is left out, as TOML has no null.

    Raises:
        ConfigError: leaving a `None` out would bring back a default that is not `None`.
    """
    table: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value is not None:
            table[field.name] = _plain(value)
        elif field.default not in (None, dataclasses.MISSING):
            raise ConfigError(
                f"{type(config).__name__}.{field.name}: it is off (None) and its default is "
                f"{field.default!r}; a table has no word for that. Let None be the default."
            )
    return table


def load_toml(cls: type[Config], path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a recipe and apply `key=value` overrides with dotted keys.

    Raises:
        NotFoundError: the file does not exist.
        ConfigError: it is not TOML, or a key or value is wrong.
    """
    return from_table(cls, override(read_toml(path), overrides), where=str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file into a table."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no such recipe; give the path of a TOML file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: this is not valid TOML ({error}). Mend that line.") from error


def override(table: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Set dotted keys of a nested table: `optim.peak_lr=3e-4`; values are read as TOML."""
    result = {k: dict(v) if isinstance(v, Mapping) else v for k, v in table.items()}
    for text in overrides:
        key, equals, raw = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {text}: expected key=value, for example optim.peak_lr=3e-4.")
        *parents, last = key.strip().split(".")
        level = result
        for parent in parents:
            inner = level.get(parent, {})
            if not isinstance(inner, Mapping):
                raise ConfigError(
                    f"--set {text}: '{parent}' is a value, not a table. Set it as a whole."
                )
            level[parent] = dict(inner)
            level = level[parent]
        level[last] = _typed(raw)
    return result


def dump_toml(table: Mapping[str, Any]) -> str:
    """Write a nested table as TOML text."""
    import tomli_w

    return tomli_w.dumps(table)


def _typed(raw: str) -> Any:
    """Read the value of an override as TOML; what is none is an unquoted string."""
    try:
        table = tomllib.loads(f"value = {raw}")
    except tomllib.TOMLDecodeError:
        return raw
    return table["value"] if len(table) == 1 else raw


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_table(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


Keys = tuple[str, ...]  # from the root of the table to the value at hand


def _build(cls: type[Config], table: Mapping[str, Any], where: str, keys: Keys) -> Config:
    place = f"{where} [{'.'.join(keys)}]" if keys else where
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    refuse_unknown_keys(table, fields, where=place)
    for name, field in fields.items():
        unset = (field.default, field.default_factory)
        if name not in table and unset == (dataclasses.MISSING, dataclasses.MISSING):
            raise ConfigError(f"{place}: '{name}' is missing; it has no default. Add it.")
    values = {name: _value(hints[name], table[name], where, (*keys, name)) for name in table}
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error


def _value(hint: Any, value: Any, where: str, keys: Keys) -> Any:
    """Check `value` against a type hint and convert it: tables to dataclasses, lists to tuples."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _choice(args, value, where, keys)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise _refused(value, "a table", where, keys)
        return _build(hint, value, where, keys)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _refused(value, "a list", where, keys)
        inner = [args[0]] * len(value) if len(args) == 2 and args[1] is Ellipsis else list(args)
        if len(inner) != len(value):
            raise _refused(value, f"a list of {len(inner)} values", where, keys)
        numbered = enumerate(zip(inner, value, strict=True))
        return tuple(_value(h, v, where, (*keys, str(i))) for i, (h, v) in numbered)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise _refused(value, "a table", where, keys)
        return {k: _value(args[1], v, where, (*keys, str(k))) for k, v in value.items()}
    if origin is typing.Literal:
        for choice in args:
            if type(value) is type(choice) and value == choice:
                return choice
        raise _refused(value, f"one of {', '.join(map(repr, args))}", where, keys)
    return _scalar(hint, value, where, keys)


def _choice(hints: tuple[Any, ...], value: Any, where: str, keys: Keys) -> Any:
    """Take the first of several types that the value has; its own type goes first."""
    if value is None and type(None) in hints:
        return None
    choices = [hint for hint in hints if hint is not type(None)]
    if type(value) in choices:
        return value
    for hint in choices[:-1]:
        try:
            return _value(hint, value, where, keys)
        except ConfigError:
            continue
    return _value(choices[-1], value, where, keys)


def _scalar(hint: Any, value: Any, where: str, keys: Keys) -> Any:
    if hint is Any:
        return value
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if hint is float and type(value) in (int, float) and value == value:  # NaN is not itself
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    if hint in _NOUNS:
        raise _refused(value, _NOUNS[hint], where, keys)
    raise TypeError(f"{where}: a config cannot hold a field of type {hint}; see puna.config.")


_NOUNS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text in quotes",
    bool: "true or false",
    Path: "a path in quotes",
}


def _refused(value: Any, expected: str, where: str, keys: Keys) -> ConfigError:
    return ConfigError(f"{where}: {'.'.join(keys)} = {value!r}; expected {expected}.")
