"""`/v1/files`: the files of batches, on disk, with a small description beside each.

A file is seen by the key that sent it alone. Names come from the server, never from a client, so
no request can leave the folder. Source: OpenAI API reference, files.
"""

import json
import re
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from puna.files import atomic_file
from puna.serve.failures import Failure

_ID = re.compile(r"file-[0-9a-f]{24}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """What is known of a file."""

    id: str
    owner: str
    name: str
    purpose: str
    size_bytes: int
    created: int

    def told(self) -> dict[str, Any]:
        """Return the file as OpenAI's clients read it."""
        return {
            "id": self.id, "object": "file", "bytes": self.size_bytes, "created_at": self.created,
            "filename": self.name, "purpose": self.purpose, "status": "processed",
        }  # fmt: skip


class FileShelf:
    """The files of one server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, content: bytes, *, owner: str, name: str, purpose: str) -> FileEntry:
        """Keep a file."""
        entry = FileEntry(
            id=f"file-{secrets.token_hex(12)}", owner=owner, name=name, purpose=purpose,
            size_bytes=len(content), created=int(time.time()),
        )  # fmt: skip
        with atomic_file(self.path(entry.id)) as path:
            path.write_bytes(content)
        with atomic_file(self._facts(entry.id)) as path:
            path.write_text(json.dumps(asdict(entry)), encoding="utf-8")
        return entry

    def find(self, id: str, owner: str) -> FileEntry:
        """Return what is known of a file.

        Raises:
            Failure: 404, this key has no such file.
        """
        facts = self._facts(id) if _ID.fullmatch(id) else None
        if facts is not None and facts.is_file():
            entry = FileEntry(**json.loads(facts.read_text(encoding="utf-8")))
            if entry.owner == owner:
                return entry
        raise Failure(404, f"There is no file {id!r}.", code="file_not_found")

    def list(self, owner: str) -> list[FileEntry]:
        """Return the files of a key, the newest first."""
        found = [
            FileEntry(**json.loads(path.read_text(encoding="utf-8")))
            for path in self._folder.glob("file-*.json")
        ]
        return sorted((e for e in found if e.owner == owner), key=lambda e: (-e.created, e.id))

    def drop(self, id: str, owner: str) -> None:
        """Delete a file."""
        self.find(id, owner)
        self._facts(id).unlink(missing_ok=True)
        self.path(id).unlink(missing_ok=True)

    def path(self, id: str) -> Path:
        """Return where the content lies."""
        assert _ID.fullmatch(id), "ids are the server's own"
        return self._folder / id

    def _facts(self, id: str) -> Path:
        return self._folder / f"{id}.json"
