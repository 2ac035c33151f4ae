"""Counting and emptying a folder that hostile code writes to.

Links are never followed, and a folder that cannot be counted is reported as such: hiding files is
a way round a limit.
"""

import os
import stat

DEEPEST = 32  # folders within folders


class Tolerant:
    """Let the operating system refuse what is inside."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> bool:
        return kind is not None and issubclass(kind, OSError)


class HiddenError(Exception):
    """A part of the folder cannot be looked into."""


def measure(top: str) -> dict[str, int]:
    """Return the bytes on disk of everything below `top`, by path.

    Raises:
        HiddenError: something is nested too deeply or closed.
    """
    found: dict[str, int] = {}
    waiting = [(top, 0)]
    while waiting:
        folder, depth = waiting.pop()
        if depth > DEEPEST:
            raise HiddenError(f"folders are nested more than {DEEPEST} deep")
        try:
            entries = list(os.scandir(folder))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise HiddenError(f"a folder cannot be read ({error.strerror})") from None
        for entry in entries:
            try:
                facts = entry.stat(follow_symlinks=False)
            except OSError:
                continue  # gone since
            found[entry.path] = facts.st_blocks * 512
            if stat.S_ISDIR(facts.st_mode):
                waiting.append((entry.path, depth + 1))
    return found


def remove_new(top: str, known: dict[str, int]) -> None:
    """Remove every file below `top` that `known` does not hold; what cannot be is left."""
    _remove(top, known, os.lstat(top).st_dev)


def _remove(top: str, known: dict[str, int], device: int) -> None:
    waiting, emptied = [top], []
    while waiting:
        folder = waiting.pop()
        try:
            facts = os.lstat(folder)
            if facts.st_dev != device:
                continue  # something else is mounted here
            if folder not in known and folder != top:
                os.chmod(folder, 0o700)
                emptied.append(folder)
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif entry.path not in known:
                with Tolerant():
                    os.unlink(entry.path)
    for folder in reversed(emptied):
        with Tolerant():
            os.rmdir(folder)
