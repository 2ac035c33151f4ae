"""Files that are either whole or absent: atomic writes and hashes.

Everything that puna keeps on disk goes through here, so that a full disk, a `kill -9` or a power
cut leaves the previous file in place. What a killed process left half-written lies beside the
target under a hidden name that holds its process id; the next writer of that target removes it.
"""

import contextlib
import ctypes
import hashlib
import itertools
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_numbers = itertools.count()  # makes names unique among the threads of this process


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; on success it replaces `path` in one step, on failure it is gone.

    The temporary file lies beside `path`, so that the rename stays inside one file system. Where
    `path` is a link, the file that it points to is replaced and the link stays.
    """
    path, partial = _begin(path)
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to fill; on success it becomes `path` by a rename, on failure it is removed.

    A folder that stood at `path` changes places with the new one in one step where the system can
    do that (Linux), and is deleted only then.
    """
    path, partial = _begin(path)
    partial.mkdir()
    try:
        yield partial
        for inner in (*partial.rglob("*"), partial):
            if not inner.is_symlink():
                _sync(inner)
        if os.path.lexists(path):
            _exchange(partial, path)
        else:
            partial.replace(path)
        _sync(path.parent)
    finally:
        _remove(partial)


def kept_folder() -> Path:
    """Return where puna keeps things between runs: `PUNA_HOME`, or `~/.cache/puna`."""
    return Path(os.environ.get("PUNA_HOME") or Path.home() / ".cache" / "puna")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, with stable key order.

    Text that is not valid Unicode (a file name in another encoding) is written as JSON's escapes.
    Raises:
        ValueError: a number is not finite, which JSON cannot say.
    """
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_file(path) as partial:
        partial.write_bytes(text.encode("utf-8", "backslashreplace"))


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_json(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON, in hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _begin(path: Path) -> tuple[Path, Path]:
    """Return the real target and a fresh name beside it; remove what killed writers left."""
    if path.is_symlink():
        path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    host = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
    mine = f".{path.name}.{host}."
    for other in path.parent.iterdir():
        if other.name.startswith(mine) and other.suffix == ".partial":
            owner = other.name.removeprefix(mine).split("-")[0]
            if owner.isdigit() and not _is_running(int(owner)):
                _remove(other)
    return path, path.with_name(f"{mine}{os.getpid()}-{next(_numbers)}.partial")


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _exchange(new: Path, old: Path) -> None:
    """Let two paths change places, in one step where the system can; else with the way back.

    Source: renameat2(2), RENAME_EXCHANGE; in glibc since 2.28.
    """
    if sys.platform == "linux":
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        if rename and rename(here, os.fsencode(new), here, os.fsencode(old), exchange) == 0:
            return
    aside = new.with_suffix(".old.partial")
    old.replace(aside)
    try:
        new.replace(old)
    except OSError:
        aside.replace(old)
        raise
    aside.replace(new)


def _remove(path: Path) -> None:
    """Delete a file, a link or a folder with all it holds; nothing happens where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Force a file's or folder's bytes to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
