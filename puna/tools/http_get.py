"""One GET request whose secrets go to one host alone, and which cannot last or grow for ever.

The built-in tools ask their services through it. Redirects are not followed, because the request
carries a key; messages name the host alone, because addresses carry keys too.
"""

import http.client
import ipaddress
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from puna.errors import RequestError, StateError

MAX_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server sent back, whatever its status."""

    status: int
    body: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """The body as text; what is not UTF-8 is replaced."""
        return self.body.decode("utf-8", errors="replace")


def get(
    address: str,
    parameters: Mapping[str, str],
    *,
    headers: Mapping[str, str],
    timeout_s: float,
    max_bytes: int = MAX_BYTES,
) -> Answer:
    """Ask an address and return its answer.

    Raises:
        RequestError: the address is not HTTPS, and not on this machine either.
        StateError: the server cannot be reached, is too slow, or sends too much.
    """
    host = urllib.parse.urlsplit(address).hostname or ""
    if not address.startswith("https://") and not (
        address.startswith("http://") and is_this_machine(host)
    ):
        raise RequestError(f"{host or 'address'}: it would be asked unencrypted; use https.")
    url = f"{address}?{urllib.parse.urlencode(parameters, errors='replace')}"
    request = urllib.request.Request(url, headers=dict(headers))
    opener = urllib.request.build_opener(_NoRedirects)
    ends = time.monotonic() + timeout_s
    try:
        with opener.open(request, timeout=timeout_s) as response:
            return _read(response, response.status, ends, max_bytes)
    except urllib.error.HTTPError as error:
        with error:
            return _read(error, error.code, ends, max_bytes)
    except TimeoutError as error:
        raise StateError(f"{host}: no whole answer within {timeout_s:g} s.") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise StateError(f"{host}: no answer within {timeout_s:g} s.") from error
        raise StateError(f"{host}: it cannot be reached.") from error
    except (OSError, http.client.HTTPException) as error:
        raise StateError(f"{host}: the connection broke ({type(error).__name__}).") from error


def is_this_machine(host: str) -> bool:
    """Whether a host name or address never leaves this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(response: Any, status: int, ends: float, max_bytes: int) -> Answer:
    body = bytearray()
    while chunk := response.read1(_CHUNK_BYTES):
        body += chunk
        if len(body) > max_bytes:
            raise StateError(f"the answer is larger than {max_bytes:,} bytes.")
        if time.monotonic() > ends:
            raise TimeoutError
    return Answer(status=status, body=bytes(body))


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> None:
        """Leave the answer as it is: its status tells that there was a redirect."""
