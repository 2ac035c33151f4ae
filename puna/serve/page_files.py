"""The chat page at `/`: files of the package, and headers that let nothing else run there.

What a model says is untrusted. The page may load scripts and styles from this server alone, may
speak to it alone, and may not be framed; a script inside an answer has no way to run.
"""

from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from puna.serve.failures import Failure

FOLDER = Path(__file__).parent / "page"

POLICY = "; ".join((
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "font-src 'self'",
    "connect-src 'self'",
    "manifest-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
))  # fmt: skip

_HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-cache",
}
# What a browser must be told whatever the machine's own table of types says.
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain; charset=utf-8",
}


class Page:
    """The files of the page; whatever is not one of them is not found."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = StaticFiles(directory=folder, html=True, check_dir=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a file."""
        path = scope["path"]
        kind = _KINDS.get(Path("index.html" if path.endswith("/") else path).suffix)

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for key, value in _HEADERS.items():
                    headers[key] = value
                if kind is not None and message["status"] == 200:
                    headers["content-type"] = kind
            await send(message)

        try:
            await self._files(scope, receive, marked)
        except HTTPException as error:
            # No other method finds anything where no file lies. "/" is the page itself.
            is_known = path == "/" or self._files.lookup_path(path.strip("/"))[1] is not None
            status = error.status_code if is_known else 404
            raise Failure(
                status, f"There is nothing to {scope['method']} at {path}.",
                code="not_found" if status == 404 else "method_not_allowed",
            ) from None  # fmt: skip
