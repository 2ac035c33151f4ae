"""The folder of a session, seen from outside: who owns it, what is new in it, and taking it away.

Everything in it was written by code that nobody has read. Links in it are never followed.
"""

import os
import stat
import subprocess
import sys
from pathlib import Path

from puna.errors import NotFoundError, RequestError
from puna.tools.sandbox.folders import DEEPEST
from puna.tools.sandbox.outcome import Made

Stamp = tuple[int, int, int]  # change time in ns, bytes, inode
LISTED = 20  # files that one result names
# Users that systemd gives to services for a while and that own nothing; each session takes one.
# Source: systemd, "Users, Groups, UIDs and GIDs on systemd Systems".
SPARE_USERS = range(61_184, 65_520)


def check_folder(folder: Path) -> Path:
    """Return the real path of a folder that code may write to.

    Raises:
        NotFoundError: it is not there.
        RequestError: writing to it would reach further than the folder itself.
    """
    place = folder.resolve()
    if not place.is_dir():
        raise NotFoundError(
            f"sandbox: the folder {folder} does not exist; a folder for the code's files is "
            "expected. Make it, or give none for a temporary one."
        )
    near = (Path(sys.prefix), Path(sys.executable), Path(__file__), Path.home())
    for path in (*near, *(x.resolve() for x in near)):
        if path.is_relative_to(place):
            raise RequestError(
                f"sandbox: the folder {place} holds {path}; a folder of its own is expected, "
                "because the code may change whatever is in it. Choose or make another folder."
            )
    return place


def spare_user(folder: Path) -> int:
    """Return a user who owns nothing, another one for each folder as far as they go."""
    return SPARE_USERS[hash(str(folder)) % len(SPARE_USERS)]


def is_mapped(user: int, table: Path = Path("/proc/self/uid_map")) -> bool:
    """Whether this user namespace knows a user."""
    for line in table.read_text().splitlines() if table.exists() else ():
        inner, _, count = (int(word) for word in line.split())
        if inner <= user < inner + count:
            return True
    return False


def stamps(folder: Path) -> dict[str, Stamp]:
    """Return when each regular file below `folder` was changed, by its name within it."""
    found: dict[str, Stamp] = {}
    waiting = [("", 0)]
    while waiting:
        inner, depth = waiting.pop()
        try:
            entries = list(os.scandir(folder / inner))
        except OSError:
            continue
        for entry in entries:
            try:
                facts = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            name = f"{inner}/{entry.name}" if inner else entry.name
            if stat.S_ISREG(facts.st_mode):
                found[name] = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
            elif stat.S_ISDIR(facts.st_mode) and depth < DEEPEST:
                waiting.append((name, depth + 1))
    return found


def changed(before: dict[str, Stamp], after: dict[str, Stamp]) -> tuple[Made, ...]:
    """Return the files that are new or different, without caches."""
    names = sorted(
        name
        for name, stamp in after.items()
        if before.get(name) != stamp and "__pycache__" not in name and name.isprintable()
    )
    return tuple(Made(name=name, size_bytes=after[name][1]) for name in names[:LISTED])


def read_file(folder: Path, name: str, *, most: int = 2**26) -> bytes:
    """Return the bytes of a file that the code has made, never of anything outside.

    Raises:
        NotFoundError: there is no regular file of that name, or a link stands on the way.
    """
    parts = Path(name).parts
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for index, part in enumerate(parts):
            if part in ("..", "/"):
                raise NotFoundError(_no_file(name))
            kind = 0 if index == len(parts) - 1 else os.O_DIRECTORY
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | kind
            inner = os.open(part, flags, dir_fd=at)
            os.close(at)
            at = inner
        if not parts or not stat.S_ISREG(os.fstat(at).st_mode):
            raise NotFoundError(_no_file(name))
        with os.fdopen(os.dup(at), "rb") as file:
            return file.read(most)
    except OSError as error:
        if isinstance(error, NotFoundError):
            raise
        raise NotFoundError(_no_file(name)) from None
    finally:
        os.close(at)


def remove(folder: Path) -> None:
    """Remove a folder, however deep and closed its content is, and nothing that it links to."""
    for command in (["rm", "-rf"], ["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        if not folder.exists():
            return
        subprocess.run([*command, "--", str(folder)], check=False, capture_output=True)


def _no_file(name: str) -> str:
    return (
        f"sandbox: {name!r} is no regular file of the session's folder; the name of one is "
        "expected, and links are not followed. Use a name that a result has listed."
    )
