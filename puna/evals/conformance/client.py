"""A small HTTP client for one OpenAI-compatible server.

It uses nothing but the standard library and shows the wire as it is: status, headers, bytes and
the events of a stream. Official clients repair and retry, which a conformance suite must not.
"""

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from puna.errors import RequestError, StateError

_MOST_BYTES = 16 * 2**20  # of one answer; a server that says more is not read to its end


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back for one request."""

    status: int  # 0: nothing came back
    kind: str = ""  # its content type
    text: str = ""
    trouble: str = ""  # why nothing came back, or why it ended early

    @property
    def body(self) -> Any:
        """The JSON of the answer; None where it is none."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None

    @property
    def has_error_form(self) -> bool:
        """Whether it tells an error as OpenAI does: an object with a message."""
        error = self.body.get("error") if isinstance(self.body, dict) else None
        return isinstance(error, dict) and isinstance(error.get("message"), str)

    @property
    def says(self) -> str:
        """The status and the beginning of what was said."""
        if not self.status:
            return self.trouble or "nothing came back"
        return f"status {self.status}: {' '.join(self.text.split())[:160]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """What came back for a request that asked for a stream."""

    answer: Answer  # its text is all that came
    events: tuple[str, ...] = ()  # what follows `data:` in each event


@dataclass(frozen=True, slots=True)
class Client:
    """One server, one key."""

    url: str  # ends with /v1 or whatever stands before /chat/completions
    key: str | None = None
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RequestError(
                f"--url: {self.url!r} given; an address such as http://127.0.0.1:8000/v1 is "
                "expected."
            )

    @property
    def root(self) -> str:
        """The path before /v1, where servers keep what is not OpenAI's."""
        return urlsplit(self.url).path.rstrip("/").removesuffix("/v1")

    def get(self, path: str) -> Answer:
        """Ask for a path under the address."""
        return self._send("GET", self._path(path), None).answer

    def post(self, path: str, body: Mapping[str, Any] | str) -> Answer:
        """Send JSON, or a text as it is, to a path under the address."""
        return self._send("POST", self._path(path), body).answer

    def get_root(self, path: str) -> Answer:
        """Ask for a path beside /v1."""
        return self._send("GET", self.root + path, None).answer

    def post_root(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Send JSON to a path beside /v1."""
        return self._send("POST", self.root + path, body).answer

    def stream(self, path: str, body: Mapping[str, Any]) -> Events:
        """Send JSON that asks for a stream, and read the stream to its end."""
        return self._send("POST", self._path(path), {**body, "stream": True})

    def reach(self) -> None:
        """Stop in a sentence where no server answers."""
        answer = self.get("/models")
        if not answer.status:
            raise StateError(
                f"{self.url}: no answer ({answer.trouble}); a running OpenAI-compatible server is "
                "expected. Start it, or correct --url."
            )
        if answer.status in (401, 403):
            raise StateError(
                f"{self.url}: the server refuses the key (status {answer.status}); a valid key is "
                "expected. Name the variable that holds it with --key-env."
            )

    def _path(self, path: str) -> str:
        return urlsplit(self.url).path.rstrip("/") + path

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        assert parts.hostname is not None  # checked when the client was made
        if parts.scheme == "https":
            return http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=self.timeout_s,
                context=ssl.create_default_context(),
            )  # fmt: skip
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=self.timeout_s)

    def _send(self, method: str, path: str, body: Mapping[str, Any] | str | None) -> Events:
        headers = {"Content-Type": "application/json", "Accept": "*/*"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        data = body if isinstance(body, str) or body is None else json.dumps(body)
        connection = self._connect()
        try:
            connection.request(method, path, data.encode() if data else None, headers)
            response = connection.getresponse()
            raw, trouble = _read(response)
        except (OSError, http.client.HTTPException) as error:
            return Events(answer=Answer(status=0, trouble=_why(error, self.timeout_s)))
        finally:
            connection.close()
        kind = (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            trouble = trouble or f"bytes that are no UTF-8 at {error.start}"
            text = raw.decode("utf-8", "replace")
        answer = Answer(status=response.status, kind=kind, text=text, trouble=trouble)
        return Events(answer=answer, events=_events(text) if kind == "text/event-stream" else ())


def _read(response: http.client.HTTPResponse) -> tuple[bytes, str]:
    try:
        return response.read(_MOST_BYTES), ""
    except http.client.IncompleteRead as error:
        return error.partial, "the connection closed before the end of the answer"


def _events(text: str) -> tuple[str, ...]:
    """Return the data of each event. Source: WHATWG HTML, server-sent events."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    found: list[str] = []
    data: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and data:
            found.append("\n".join(data))
            data = []
    return (*found, "\n".join(data)) if data else tuple(found)


def _why(error: Exception, timeout_s: float) -> str:
    if isinstance(error, TimeoutError | socket.timeout):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return f"{type(error).__name__}: {error}".rstrip(": ")
