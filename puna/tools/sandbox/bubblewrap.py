"""The same walls, built by bubblewrap where the system has it.

Bubblewrap is a small program that many systems allow to make namespaces when they forbid it to
others. Source: bwrap(1).
"""

import os

from puna.tools.sandbox.plan import Plan
from puna.tools.sandbox.roots import DEVICES, LINKS, WORK, identity_files

PLACES = ("/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap")
INSIDE = "/run/puna"  # where this room's files appear


def program() -> str | None:
    """Return the path of bubblewrap, None where it is not installed."""
    return next((path for path in PLACES if os.access(path, os.X_OK)), None)


def arguments(plan: Plan, channel: int, alive: int) -> list[str]:
    """Return the command that starts the keeper within bubblewrap's walls.

    Args:
        plan: the session's plan.
        channel: the open file that leads to puna, which the command inherits.
        alive: the one that tells of the launcher's death.
    Raises:
        FileNotFoundError: bubblewrap is not installed.
    """
    found = program()
    if found is None:
        raise FileNotFoundError("bubblewrap is not installed")
    command = [found, *_namespaces(), "--die-with-parent", "--new-session", "--as-pid-1"]
    command += ["--proc", "/proc", "--hostname", "sandbox"]
    for path in ("/tmp", "/dev/shm"):
        command += ["--perms", "1777", "--size", str(plan.scratch_bytes), "--tmpfs", path]
    for name in DEVICES:
        command += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    command += ["--symlink", "/proc/self/fd", "/dev/fd"]
    for path in _parents(plan.shown):  # without this they are closed where the real ones are
        command += ["--perms", "0755", "--dir", path]
    for path in plan.shown:
        command += ["--ro-bind", path, path]
    for name in LINKS:
        if os.path.islink(f"/{name}"):
            command += ["--symlink", os.readlink(f"/{name}"), f"/{name}"]
    for path, text in identity_files(plan.user, plan.group).items():
        command += ["--perms", "0644", "--file", str(_held(text)), path]
    command += ["--ro-bind", plan.library, INSIDE, "--bind", plan.folder, WORK]
    command += ["--remount-ro", "/", "--chdir", "/"]
    python = [plan.python, "-I", "-S", "-B", "-X", "utf8"]
    return [*command, *python, f"{INSIDE}/launch.py", str(channel), str(alive)]


def _parents(paths: list[str]) -> list[str]:
    """Return every folder above the paths, the highest first."""
    found = set()
    for path in paths:
        while (path := os.path.dirname(path)) != "/":
            found.add(path)
    return sorted(found - {"/tmp", "/dev"})


def _namespaces() -> list[str]:
    """Return what bubblewrap leaves; root needs no user namespace and may change its user."""
    flags = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    flags += ["--unshare-cgroup-try", "--cap-drop", "ALL"]
    if os.geteuid() != 0:
        return ["--unshare-user", *flags]
    kept = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")  # until the keeper has used them
    return [*flags, *(word for name in kept for word in ("--cap-add", name))]


def _held(text: str) -> int:
    """Return an open file in memory with this text, for the program that comes."""
    descriptor = os.memfd_create("puna", 0)
    os.write(descriptor, text.encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
