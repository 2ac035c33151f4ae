"""A file system of its own: the interpreter to read, one folder to write, and nothing else.

Called in fresh namespaces, before the code runs. The former root is taken away at the end, so
there is no path to it. The folder appears as `/work`, whatever its name outside.
"""

import os

from puna.tools.sandbox import kernel
from puna.tools.sandbox.kernel import (
    BIND,
    NO_DEVICES,
    NO_EXEC,
    NO_SETUID,
    PRIVATE,
    READ_ONLY,
    RECURSIVE,
    REMOUNT,
)
from puna.tools.sandbox.plan import Plan

WORK = "/work"
FORMER = "/former"
DEVICES = ("null", "zero", "full", "random", "urandom")
LINKS = ("bin", "sbin", "lib", "lib64", "lib32")  # of merged systems, into /usr
RELATIME = 1 << 21  # linux/mount.h; statvfs gives the other kept flags their own numbers
ST_RELATIME = 4096


def build_root(plan: Plan) -> bool:
    """Make the new root and go there; return whether there is a `/proc` of the own processes."""
    sources = {path: os.path.realpath(path) for path in plan.shown}
    folder = os.path.realpath(plan.folder)
    kernel.name_host("sandbox")
    kernel.unshare(kernel.NEW_NAMESPACE["files"])
    kernel.mount(None, "/", None, RECURSIVE | PRIVATE)
    kernel.mount("tmpfs", "/tmp", "tmpfs", NO_SETUID | NO_DEVICES, "mode=755,size=1m")
    os.mkdir("/tmp" + FORMER)
    os.umask(0o022)
    kernel.pivot_root("/tmp", "/tmp" + FORMER)
    os.chdir("/")
    has_processes = _system_folders(plan)  # first, since the interpreter may lie below /tmp
    for path, source in sources.items():
        _bind(FORMER + source, path, READ_ONLY | NO_SETUID | NO_DEVICES)
    for name in LINKS:
        if os.path.islink(f"{FORMER}/{name}") and not os.path.lexists(f"/{name}"):
            os.symlink(os.readlink(f"{FORMER}/{name}"), f"/{name}")
    _bind(FORMER + folder, WORK, NO_SETUID | NO_DEVICES | NO_EXEC)
    kernel.unmount(FORMER)
    os.rmdir(FORMER)
    kernel.mount(None, "/", None, REMOUNT | BIND | READ_ONLY | NO_SETUID | NO_DEVICES)
    return has_processes


def identity_files(user: int, group: int) -> dict[str, str]:
    """Return the files that give the code's user a name."""
    return {
        "/etc/passwd": f"sandbox:x:{user}:{group}::/tmp:/bin/sh\n",
        "/etc/group": f"sandbox:x:{group}:\n",
        "/etc/hosts": "127.0.0.1 localhost\n",
    }


def _system_folders(plan: Plan) -> bool:
    os.makedirs("/etc", exist_ok=True)
    for path, text in identity_files(plan.user, plan.group).items():
        with open(path, "w") as file:
            file.write(text)
    os.makedirs("/dev/shm")
    for name in DEVICES:
        _bind(f"{FORMER}/dev/{name}", f"/dev/{name}", NO_SETUID | NO_EXEC)
    os.symlink("/proc/self/fd", "/dev/fd")
    bounds = f"mode=1777,size={plan.scratch_bytes},nr_inodes={plan.files}"
    for path in ("/tmp", "/dev/shm"):
        os.makedirs(path, exist_ok=True)
        kernel.mount("tmpfs", path, "tmpfs", NO_SETUID | NO_DEVICES | NO_EXEC, bounds)
    os.mkdir("/proc")
    try:
        flags = READ_ONLY | NO_SETUID | NO_DEVICES | NO_EXEC
        kernel.mount("proc", "/proc", "proc", flags)
    except OSError:
        return False  # a container that hides parts of its own /proc forbids a fresh one
    return True


def _bind(source: str, target: str, flags: int) -> None:
    """Show `source` at `target` under `flags`."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    kernel.mount(source, target, None, BIND | RECURSIVE)
    try:
        kernel.restrict_mounts(target, flags)
    except OSError:  # before Linux 5.12: the top mount alone, with the flags it has already
        has = os.statvfs(target).f_flag
        kept = (has & 0x40F) | (RELATIME if has & ST_RELATIME else 0)
        kernel.mount(None, target, None, REMOUNT | BIND | kept | flags)
