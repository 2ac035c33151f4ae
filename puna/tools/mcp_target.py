"""Where a server of the Model Context Protocol is: a command to start, or an address to call.

The text comes from a person (`--tools "mcp:..."`). Secrets stay in the environment: a word `$NAME`
is replaced by that variable here, and what is built of it is never shown.
"""

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from puna.errors import RequestError
from puna.tools.http_get import is_this_machine

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_NOT_WORD = re.compile(r"\W+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A server that is started here and spoken to through its standard input and output."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def label(self) -> str:
        """How messages name the server; its arguments may be private."""
        return os.path.basename(self.command[0])  # noqa: PTH119 (a command, not a path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A server that runs elsewhere and is spoken to over HTTP."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def label(self) -> str:
        """The host alone: paths and queries of addresses may hold keys."""
        return urlsplit(self.url).hostname or "server"


Target = Program | Address


def parse_target(text: str, environment: Mapping[str, str] = os.environ) -> Target:
    """Read `python server.py --flag` or `https://host/mcp`.

    Words like `TOKEN=$TOKEN` before a command set its environment, which otherwise holds only what
    every program needs. Words like `'X-Key: $KEY'` after an address are headers. Where no
    `Authorization` is among them, the variable `PUNA_MCP_TOKEN_` and the host's name in capitals
    (`PUNA_MCP_TOKEN_API_EXAMPLE_COM`) is sent as the bearer token.

    Raises:
        RequestError: the text names no server, names a variable that is not set, or would send a
            secret unencrypted.
    """
    text = text.removeprefix("mcp:")
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise _error(f"the command cannot be split into words ({error})") from error
    if words and re.match(r"https?://", words[0], re.IGNORECASE):
        return _address(words[0], words[1:], environment)
    given: dict[str, str] = {}
    while words and _ASSIGNMENT.match(words[0]):
        name, _, value = words.pop(0).partition("=")
        given[name] = _expanded(value, environment)
    if not words or any("\0" in word for word in words):
        raise _error("no server given")
    return Program(command=tuple(words), environment=given)


def _address(url: str, words: list[str], environment: Mapping[str, str]) -> Address:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise _error(f"the address is not valid ({error})") from error
    if not host:
        raise _error("the address has no host")
    if parts.username is not None:
        raise _error("an address with a user or a password given; put them in a header")
    headers: dict[str, str] = {}
    for word in words:
        name, colon, value = word.partition(":")
        value = _expanded(value.strip(), environment)
        if not colon or not re.fullmatch(r"[\w-]+", name, re.ASCII) or not _is_header(value):
            raise _error("a word after the address is no header 'Name: value'")
        headers[name] = value
    variable = f"PUNA_MCP_TOKEN_{_NOT_WORD.sub('_', host).upper()}"
    token = environment.get(variable, "")
    if token and "authorization" not in {name.lower() for name in headers}:
        if not _is_header(token):
            raise _error(f"the variable {variable} holds what a header cannot carry")
        headers["Authorization"] = f"Bearer {token}"
    if headers and parts.scheme.lower() == "http" and not is_this_machine(host):
        raise _error(f"headers for http://{host} would be sent unencrypted; use https")
    return Address(url=url, headers=headers)


def _expanded(value: str, environment: Mapping[str, str]) -> str:
    def look_up(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in environment:
            raise _error(f"the variable {name} is not set; export it first")
        return environment[name]

    return _VARIABLE.sub(look_up, value)


def _is_header(value: str) -> bool:
    return value.isascii() and value.isprintable()


def _error(what: str) -> RequestError:
    return RequestError(
        f"mcp: {what}. A command (mcp:python server.py) or an address (mcp:https://host/mcp) is "
        "expected."
    )
