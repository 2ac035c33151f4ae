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
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    refuse_unknown_keys(table, fields, where=where)
    missing = [
        name
        for name, f in fields.items()
        if name not in table
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{where}: '{missing[0]}' is missing; it has no default. Add it.")
    values = {
        name: _value(hints[name], value, where=f"{where}.{name}") for name, value in table.items()
    }
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def to_table(config: Any) -> dict[str, Any]:
    """Turn a dataclass tree into nested plain values; `None` is left out, as TOML has no null."""
    table: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value is not None:
            table[field.name] = _plain(value)
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
        try:
            value = tomllib.loads(f"value = {raw}")["value"]
        except tomllib.TOMLDecodeError:
            value = raw  # an unquoted string
        *parents, last = key.strip().split(".")
        level = result
        for parent in parents:
            inner = level.get(parent, {})
            if not isinstance(inner, Mapping):
                raise ConfigError(f"--set {text}: '{parent}' is a value, not a table.")
            level[parent] = dict(inner)
            level = level[parent]
        level[last] = value
    return result


def dump_toml(table: Mapping[str, Any]) -> str:
    """Write a nested table as TOML text."""
    import tomli_w

    return tomli_w.dumps(table)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_table(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def _value(hint: Any, value: Any, *, where: str) -> Any:
    """Check `value` against a type hint and convert it: tables to dataclasses, lists to tuples."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        choices = [a for a in args if a is not type(None)]
        return _value(choices[0], value, where=where) if len(choices) == 1 else value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: got {value!r}; a table is expected.")
        return from_table(hint, value, where=where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: got {value!r}; a list is expected.")
        inner = [args[0]] * len(value) if len(args) == 2 and args[1] is Ellipsis else list(args)
        if len(inner) != len(value):
            raise ConfigError(f"{where}: got {len(value)} values; {len(inner)} are expected.")
        return tuple(_value(h, v, where=where) for h, v in zip(inner, value, strict=True))
    if origin in (dict, Mapping) or origin is typing.get_origin(Mapping[str, int]):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: got {value!r}; a table is expected.")
        return {k: _value(args[1], v, where=f"{where}.{k}") for k, v in value.items()}
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(
                f"{where}: got {value!r}; expected one of {', '.join(map(str, args))}."
            )
        return value
    return _scalar(hint, value, where=where)


def _scalar(hint: Any, value: Any, *, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is Any or (isinstance(hint, type) and type(value) is hint):
        return value
    name = getattr(hint, "__name__", str(hint))
    raise ConfigError(f"{where}: got {value!r}; a value of type {name} is expected.")
