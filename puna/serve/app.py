"""The server as an ASGI application: routes, the gate before them, and what lives as long as it.

`puna.serve.run` gives it to uvicorn; tests call it in their own process.
"""

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route as Path_
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from puna.serve import batches, chat, embeddings, file_endpoints, listing, responses, text, tokens
from puna.serve.bodies.batches import BatchBody
from puna.serve.bodies.chat import ChatBody
from puna.serve.bodies.embeddings import EmbeddingsBody
from puna.serve.bodies.responses import ResponsesBody
from puna.serve.bodies.text import TextBody
from puna.serve.bodies.tokens import DetokenizeBody, TokenizeBody
from puna.serve.call import Call
from puna.serve.endpoint import get, post
from puna.serve.failures import Failure
from puna.serve.files import FileShelf
from puna.serve.gate import Gate
from puna.serve.metrics import Metrics
from puna.serve.openapi import Route, describe
from puna.serve.page_files import Page
from puna.serve.responses_store import ResponseStore
from puna.serve.served import Served
from puna.serve.settings import Settings
from puna.serve.state import State
from puna.serve.traces import Tracer
from puna.serve.wire import Reply

_FORM = {
    "file": {"type": "string", "format": "binary"},
    "purpose": {"type": "string", "enum": ["batch", "user_data"]},
}


class Server:
    """The application and its state."""

    def __init__(self, models: Mapping[str, Served], settings: Settings) -> None:
        self._held = AsyncExitStack()
        folder = settings.files
        if folder is None:
            kept = tempfile.TemporaryDirectory(prefix="puna-files-", ignore_cleanup_errors=True)
            self._held.callback(kept.cleanup)
            folder = Path(kept.name)
        self.state = State(
            models=dict(models), settings=settings, metrics=Metrics(),
            responses=ResponseStore(settings.kept_responses), files=FileShelf(folder),
        )  # fmt: skip
        self.state.metrics.watch(
            lambda: {name: served.figures() for name, served in self.state.models.items()}
        )
        self._batches = batches.Batches(
            self.state,
            {
                "/v1/chat/completions": (ChatBody, chat.chat),
                "/v1/completions": (TextBody, text.complete),
                "/v1/embeddings": (EmbeddingsBody, embeddings.embed),
                "/v1/responses": (ResponsesBody, responses.respond),
            },
        )
        operations = self._operations()
        self.description = describe([r for r, _ in operations], needs_key=bool(settings.keys))
        paths: dict[str, dict[str, ASGIApp]] = {}
        for route, answer in operations:
            paths.setdefault(route.path, {})[route.method] = answer
        self.router = Router(
            [Path_(path, ByMethod(answers)) for path, answers in paths.items()],
            redirect_slashes=False, default=Page(), lifespan=self._lifespan,
        )  # fmt: skip
        app: ASGIApp = Gate(self.router, self.state, Tracer())
        if settings.origins:
            app = CORSMiddleware(
                app, allow_origins=settings.origins, allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["*"], expose_headers=["x-request-id", "retry-after"],
            )  # fmt: skip
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as ASGI wants it."""
        await self._app(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, _: object) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await self._batches.close()
            for served in self.state.models.values():
                served.close()
            await self._held.aclose()

    async def _openapi(self, state: State, call: Call, parts: dict[str, str]) -> Reply:
        return Reply.json(self.description)

    def _operations(self) -> list[tuple[Route, ASGIApp]]:
        """Return every operation with its description."""
        state, kept = self.state, self._batches

        def posts(path: str, says: str, body: Any, answer: Any, **more: Any) -> Any:
            route = Route(method="POST", path=path, says=says, body=body, **more)
            return route, post(state, body, answer)

        def gets(path: str, says: str, answer: Any, *, method: str = "GET", **more: Any) -> Any:
            return Route(method=method, path=path, says=says, **more), get(state, answer)

        upload = Route(method="POST", path="/v1/files", says="Send a file.", form=_FORM)
        name, id_ = "/v1/models/{model:path}", "{id}"
        return [
            posts("/v1/chat/completions", "Answer a dialog.", ChatBody, chat.chat, streams=True),
            posts("/v1/completions", "Continue texts.", TextBody, text.complete, streams=True),
            posts("/v1/responses", "Answer items.", ResponsesBody, responses.respond, streams=True),
            gets(f"/v1/responses/{id_}", "A stored response.", responses.get_response),
            gets(f"/v1/responses/{id_}", "Forget a response.", responses.delete_response,
                 method="DELETE"),
            gets(f"/v1/responses/{id_}/input_items", "What it answers.", responses.list_input),
            posts("/v1/embeddings", "Texts as vectors.", EmbeddingsBody, embeddings.embed),
            gets("/v1/models", "The models.", listing.models),
            gets(name, "One model.", listing.model),
            (upload, file_endpoints.Upload(state)),
            gets("/v1/files", "The files.", file_endpoints.list_files),
            gets(f"/v1/files/{id_}", "One file.", file_endpoints.get_file),
            gets(f"/v1/files/{id_}", "Delete a file.", file_endpoints.delete_file,
                 method="DELETE"),
            gets(f"/v1/files/{id_}/content", "What is in a file.", file_endpoints.read_file,
                 kind="application/octet-stream"),
            posts("/v1/batches", "Begin a batch.", BatchBody, kept.create),
            gets("/v1/batches", "The batches.", kept.list_all),
            gets(f"/v1/batches/{id_}", "One batch.", kept.get),
            gets(f"/v1/batches/{id_}/cancel", "Stop a batch.", kept.cancel, method="POST"),
            posts("/tokenize", "The ids of a text or a dialog.", TokenizeBody, tokens.tokenize),
            posts("/detokenize", "The text of ids.", DetokenizeBody, tokens.detokenize),
            gets("/health", "Whether requests are taken.", listing.health, is_open=True),
            gets("/metrics", "Figures for Prometheus.", listing.metrics, kind="text/plain"),
            gets("/openapi.json", "This description.", self._openapi, is_open=True),
        ]  # fmt: skip


class ByMethod:
    """The operations of one path."""

    def __init__(self, answers: Mapping[str, ASGIApp]) -> None:
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the method of the request."""
        answer = self._answers.get(scope["method"])
        if answer is None:
            allow = ", ".join(self._answers)
            raise Failure(
                405, f"{scope['path']} takes {allow}, and not {scope['method']}.",
                code="method_not_allowed", allow=allow,
            )  # fmt: skip
        await answer(scope, receive, send)
