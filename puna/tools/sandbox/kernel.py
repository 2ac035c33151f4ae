"""The calls of the Linux kernel that Python has no name for, through ctypes.

Every function raises `OSError` with the kernel's reason. Source: the manual pages of the calls;
numbers from linux/sched.h, linux/mount.h, linux/prctl.h and linux/capability.h.
"""

import ctypes
import os

NEW_NAMESPACE = {  # linux/sched.h
    "files": 0x0002_0000,
    "group": 0x0200_0000,
    "name": 0x0400_0000,
    "memory": 0x0800_0000,
    "user": 0x1000_0000,
    "processes": 0x2000_0000,
    "network": 0x4000_0000,
}

READ_ONLY, NO_SETUID, NO_DEVICES, NO_EXEC = 1, 2, 4, 8  # linux/mount.h, as in mount(2)
REMOUNT, BIND, RECURSIVE, PRIVATE = 32, 4096, 16384, 1 << 18
DETACH = 2

SET_DEATH_SIGNAL, SET_DUMPABLE, SET_SECCOMP, DROP_BOUND = 1, 4, 22, 24  # linux/prctl.h
SET_NO_NEW_PRIVILEGES, AMBIENT = 38, 47
CLEAR_AMBIENT = 4
CAPABILITIES_V3 = 0x2008_0522  # linux/capability.h
MOUNT_SETATTR = 442  # asm-generic/unistd.h; the same on every architecture
AT_RECURSIVE, AT_EMPTY_PATH = 0x8000, 0x1000

_libc = ctypes.CDLL(None, use_errno=True)


def syscall(number: int, *arguments: object) -> int:
    """Make one system call; whole numbers travel as 64 bits."""
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    _libc.syscall.restype = ctypes.c_long
    return _checked(_libc.syscall(ctypes.c_long(number), *wide), f"system call {number}")


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags` for new ones."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """Mount `source` at `target`."""
    done = _libc.mount(
        _text(source), _text(target), _text(kind), ctypes.c_ulong(flags), _text(data or None)
    )
    _checked(done, f"mount {target}")


def unmount(target: str) -> None:
    """Take what is mounted at `target` out of sight; it goes when nobody uses it any more."""
    _checked(_libc.umount2(_text(target), ctypes.c_int(DETACH)), f"unmount {target}")


def name_host(name: str) -> None:
    """Give the own namespace of names a host name."""
    text = os.fsencode(name)
    _checked(_libc.sethostname(text, ctypes.c_size_t(len(text))), "sethostname")


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root of the file system, with the former one at `old`."""
    number = 155 if os.uname().machine == "x86_64" else 41  # asm/unistd_64.h, asm-generic
    syscall(number, _text(new), _text(old))


def control(option: int, *values: int) -> int:
    """Call prctl(2); arguments that are not given are 0."""
    filled = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    return _checked(_libc.prctl(ctypes.c_int(option), *filled), f"prctl {option}")


def control_with(option: int, value: int, pointer: object) -> None:
    """Call prctl(2) with a structure."""
    _checked(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), pointer), f"prctl {option}")


def restrict_mounts(path: str, flags: int) -> None:
    """Add mount attributes to everything mounted below `path`. Needs Linux 5.12."""
    attributes = (ctypes.c_uint64 * 4)(flags, 0, 0, 0)  # set, clear, propagation, user namespace
    here = -100  # AT_FDCWD
    size = ctypes.sizeof(attributes)
    syscall(MOUNT_SETATTR, here, _text(path), AT_RECURSIVE, ctypes.byref(attributes), size)


def drop_bounds() -> None:
    """Forget every capability that a program could bring back; needs the right to forget."""
    for number in range(64):
        try:
            control(DROP_BOUND, number)
        except OSError:
            break  # past the last one that this kernel knows, or nothing may be forgotten


def drop_capabilities() -> None:
    """Give up every capability for good."""
    control(AMBIENT, CLEAR_AMBIENT)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_V3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _checked(_libc.capset(ctypes.byref(header), ctypes.byref(nothing)), "capset")


def _text(value: str | None) -> bytes | None:
    return None if value is None else os.fsencode(value)


def _checked(result: int, where: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{where}: {os.strerror(number)}")
    return result
