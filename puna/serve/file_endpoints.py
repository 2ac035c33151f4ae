"""Files over HTTP: sent as a form, listed, read and deleted.

Source: OpenAI API reference, files.
"""

import asyncio

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from puna.serve.call import Call
from puna.serve.endpoint import send_failure
from puna.serve.failures import Failure
from puna.serve.state import State
from puna.serve.wire import Reply, send_reply

_ROOM = 64 * 1024  # bytes that a form may have beside its file
Parts = dict[str, str]


class Upload:
    """`POST /v1/files`."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Keep a file that comes as a form."""
        call: Call = scope["state"]["call"]
        try:
            entry = await self._keep(scope, receive, call)
        except Failure as failure:
            await send_failure(send, call, failure)
        else:
            await send_reply(send, entry)

    async def _keep(self, scope: Scope, receive: Receive, call: Call) -> Reply:
        most = self._state.settings.max_file_bytes
        request = Request(scope, _bounded(receive, most + _ROOM, scope))
        try:
            async with request.form(max_files=1, max_fields=8) as form:
                file, purpose = form.get("file"), form.get("purpose")
                if not isinstance(file, UploadFile):
                    raise Failure(422, "file: a file is expected in the form.", param="file")
                if not isinstance(purpose, str) or purpose not in ("batch", "user_data"):
                    raise Failure(
                        422, f"purpose: {str(purpose)[:40]!r} was given; 'batch' is expected.",
                        param="purpose",
                    )  # fmt: skip
                content = await file.read()
                name = (file.filename or "file")[:200]
        except MultiPartException as error:
            told = error.message.rstrip(".")
            raise Failure(400, f"The form cannot be read: {told}.", code="invalid_form") from None
        entry = await asyncio.to_thread(
            self._state.files.add, content, owner=call.owner, name=name, purpose=purpose
        )
        return Reply.json(entry.told())


def _bounded(receive: Receive, most: int, scope: Scope) -> Receive:
    size = 0

    async def read() -> dict[str, object]:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > most:
            raise Failure(
                413, f"The file is larger than the {most:,} bytes that this server takes.",
                code="body_too_large",
            )  # fmt: skip
        return dict(message)

    return read


async def list_files(state: State, call: Call, parts: Parts) -> Reply:
    """List the files of a key."""
    found = [entry.told() for entry in await asyncio.to_thread(state.files.list, call.owner)]
    ends = {"first_id": found[0]["id"], "last_id": found[-1]["id"]} if found else {}
    return Reply.json({"object": "list", "data": found, "has_more": False, **ends})


async def get_file(state: State, call: Call, parts: Parts) -> Reply:
    """Tell about a file."""
    return Reply.json(state.files.find(parts["id"], call.owner).told())


async def read_file(state: State, call: Call, parts: Parts) -> Reply:
    """Return what is in a file."""
    entry = state.files.find(parts["id"], call.owner)
    content = await asyncio.to_thread(state.files.path(entry.id).read_bytes)
    return Reply(body=content, kind="application/octet-stream")


async def delete_file(state: State, call: Call, parts: Parts) -> Reply:
    """Delete a file."""
    await asyncio.to_thread(state.files.drop, parts["id"], call.owner)
    return Reply.json({"id": parts["id"], "object": "file", "deleted": True})
