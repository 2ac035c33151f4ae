"""Root's folder for code that is never root: the folder is shown as if another user owned it.

The kernel can map owners at a mount: what the code's user writes belongs to root on the disk. So
nothing in the folder changes hands. Needs root and Linux 5.12. Source: mount_setattr(2),
"ID-mapped mounts"; numbers from linux/mount.h and asm-generic/unistd.h.
"""

import ctypes
import os

from puna.tools.sandbox import kernel
from puna.tools.sandbox.plan import Plan

OPEN_TREE, MOVE_MOUNT = 428, 429
CLONE_TREE, FROM_EMPTY_PATH = 1, 4
MAP_OWNERS = 0x0010_0000  # MOUNT_ATTR_IDMAP
HERE = -100  # AT_FDCWD


def show_as_owned(plan: Plan) -> None:
    """Mount the folder over itself with the code's user as its owner, in a mount tree of one's own.

    Raises:
        OSError: this is not root, or the kernel or the file system cannot map owners.
    """
    kernel.unshare(kernel.NEW_NAMESPACE["files"])
    kernel.mount(None, "/", None, kernel.RECURSIVE | kernel.PRIVATE)
    users = f"{plan.owner} {plan.user} 1"
    groups = f"{plan.owner_group} {plan.group} 1"
    mapping = _mapping(users, groups)
    path = os.fsencode(plan.folder)
    tree = kernel.syscall(OPEN_TREE, HERE, path, CLONE_TREE)
    attributes = (ctypes.c_uint64 * 4)(MAP_OWNERS, 0, 0, mapping)
    size = ctypes.sizeof(attributes)
    pointer = ctypes.byref(attributes)
    kernel.syscall(kernel.MOUNT_SETATTR, tree, b"", kernel.AT_EMPTY_PATH, pointer, size)
    kernel.syscall(MOVE_MOUNT, tree, b"", HERE, path, FROM_EMPTY_PATH)
    os.close(tree)
    os.close(mapping)


def _mapping(users: str, groups: str) -> int:
    """Return an open user namespace with these maps; a child makes it and ends."""
    waits, go = os.pipe()
    ready, made = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            kernel.unshare(kernel.NEW_NAMESPACE["user"])
            os.write(made, b".")
            os.close(go)
            os.read(waits, 1)  # ends when the parent lets go
        finally:
            os._exit(0)
    os.close(waits)
    os.close(made)
    try:
        if not os.read(ready, 1):
            raise OSError("no user namespace can be made")
        for name, text in (("uid_map", users), ("gid_map", groups)):
            with open(f"/proc/{child}/{name}", "w") as file:
                file.write(text)
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY)
    finally:
        os.close(go)
        os.close(ready)
        os.waitpid(child, 0)
