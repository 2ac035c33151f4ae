"""Landlock: the process itself gives up every file outside some folders, and the network.

It needs no privilege and no namespace, so it also works where a container forbids those (Linux
5.13, or 6.2 with all that matters here). Within namespaces it stands as a second wall. Source:
landlock(7) and linux/landlock.h.
"""

import ctypes
import os
import struct

from puna.tools.sandbox import kernel

CREATE, ADD, RESTRICT = 444, 445, 446  # asm-generic/unistd.h; the same on every architecture
VERSION = 1  # the flag that asks for the version
BENEATH = 1  # the kind of rule: a folder and all below it

EXECUTE, WRITE_FILE, READ_FILE, READ_FOLDER = 1, 2, 4, 8
TRUNCATE = 1 << 14
DEVICE_CONTROL = 1 << 15
READ = READ_FILE | READ_FOLDER
FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | DEVICE_CONTROL
# How many rights over files each version of the interface knows.
KNOWN_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
SPECIAL = (1 << 6) | (1 << 11)  # making character and block devices
NETWORK = 3  # bind and connect of TCP, from version 4
SCOPES = 3  # abstract sockets and signals to the outside, from version 6


def version() -> int:
    """Return the version of the kernel's interface, 0 where there is none."""
    try:
        return kernel.syscall(CREATE, None, 0, VERSION)
    except OSError:
        return 0


def restrict(readable: list[str], writable: list[str]) -> None:
    """Leave this process `readable` to read and run, `writable` to change, and nothing else.

    Paths that do not exist are passed over. The caller has already given up new privileges.
    """
    known = version()
    every = (1 << KNOWN_RIGHTS[min(known, 5)]) - 1
    handled = struct.pack("=Q", every)
    if known >= 4:
        handled += struct.pack("=Q", NETWORK)
    if known >= 6:
        handled += struct.pack("=Q", SCOPES)
    rules = kernel.syscall(CREATE, ctypes.create_string_buffer(handled), len(handled), 0)
    for path in readable:
        _allow(rules, path, every & (READ | EXECUTE))
    for path in writable:
        _allow(rules, path, every & ~(SPECIAL | EXECUTE | DEVICE_CONTROL))
    kernel.syscall(RESTRICT, rules, 0)
    os.close(rules)


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        at = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not os.path.isdir(path):
        rights &= FILE_RIGHTS
    rule = struct.pack("=Qi", rights, at)
    kernel.syscall(ADD, rules, BENEATH, ctypes.create_string_buffer(rule), 0)
    os.close(at)
