"""A filter in the kernel that refuses system calls, for this process and all that it starts.

The filter is a program for the kernel's packet machine (BPF): it sees the number of a call and its
arguments and answers "allow" or an error. It cannot be taken off again. Source: seccomp(2);
linux/filter.h and linux/seccomp.h for the numbers.
"""

import ctypes
import errno
import os
import struct

from puna.tools.sandbox import kernel
from puna.tools.sandbox.syscalls import (
    AUDIT,
    NEVER,
    NEW_PROCESSES,
    NEWEST,
    PATH_CHANGES,
    number,
)

LOAD, AND, RETURN = 0x20, 0x54, 0x06  # of a 32-bit word
IF_EQUAL, IF_GREATER, IF_BITS = 0x15, 0x25, 0x45
ALLOW, KILL, ERROR = 0x7FFF_0000, 0x8000_0000, 0x0005_0000
FILTER = 2  # the mode of prctl(2)

NUMBER, ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
NAMESPACES = 0x0002_0080 | 0x7E00_0000  # every CLONE_NEW flag, linux/sched.h
THREAD = 0x0001_0000  # CLONE_THREAD
# Processes keep their death signal, their dumpability (the keeper counts what they hold) and their
# memory map. Source: linux/prctl.h.
HELD_OPTIONS = (1, 4, 35, 0x59616D61)  # pdeathsig, dumpable, set_mm, ptracer
# Typing into a terminal, and having the kernel send a signal to somebody else (TIOCSTI, TIOCLINUX,
# FIOSETOWN, SIOCSPGRP; F_SETOWN, F_SETOWN_EX). Source: asm-generic/ioctls.h, sockios.h, fcntl.h.
HELD_REQUESTS = (0x5412, 0x541C, 0x8901, 0x8902)
HELD_COMMANDS = (8, 15)

Step = tuple[int, int, int, int]  # code, jump if true, jump if false, value


def _if(code: int, value: int, then: list[Step]) -> list[Step]:
    return [(code, 0, len(then), value), *then]


def _unless(code: int, value: int, then: list[Step]) -> list[Step]:
    return [(code, len(then), 0, value), *then]


def _refuse(reason: int = errno.EPERM) -> list[Step]:
    return [(RETURN, 0, 0, ERROR | reason)]


def _argument(index: int) -> list[Step]:
    """Load the lower 32 bits of an argument; both architectures put them first."""
    return [(LOAD, 0, 0, 16 + 8 * index)]


PASS: list[Step] = [(RETURN, 0, 0, ALLOW)]


def program(machine: str, *, own: int, alone: bool) -> list[Step]:
    """Return the filter.

    Args:
        machine: "x86_64" or "aarch64".
        own: the number of the process that it is made for.
        alone: it stands without namespaces. Then no process is started, no other one is signalled,
            and nothing outside the folder is changed by its path.
    """
    # A foreign architecture, or x86-64's second table of numbers, would pass a filter by number.
    steps: list[Step] = [(LOAD, 0, 0, ARCHITECTURE)]
    steps += _unless(IF_EQUAL, AUDIT[machine], [(RETURN, 0, 0, KILL)])
    steps += [(LOAD, 0, 0, NUMBER)]
    steps += _if(IF_GREATER, NEWEST, _refuse(errno.ENOSYS))
    for table in (NEVER, *((NEW_PROCESSES, PATH_CHANGES) if alone else ())):
        for name in table:
            at = number(name, machine)
            if at is not None:
                steps += _if(IF_EQUAL, at, _futimens() if name == "utimensat" else _refuse())
    for name, judged in _judgements(own, alone).items():
        at = number(name, machine)
        assert at is not None
        steps += _if(IF_EQUAL, at, judged)
    return [*steps, *PASS]


def _judgements(own: int, alone: bool) -> dict[str, list[Step]]:
    """Return what happens in the calls that depend on their arguments."""
    # The flags of clone3 lie in memory, where a filter cannot look; C libraries go back to clone.
    judged: dict[str, list[Step]] = {"clone3": _refuse(errno.ENOSYS)}
    judged["clone"] = [*_argument(0), *_if(IF_BITS, NAMESPACES, _refuse())]
    if alone:
        judged["clone"] += _unless(IF_BITS, THREAD, _refuse())
    judged["clone"] += PASS
    judged["prctl"] = _refuse_values(0, HELD_OPTIONS)
    judged["ioctl"] = _refuse_values(1, HELD_REQUESTS)
    judged["fcntl"] = _refuse_values(1, HELD_COMMANDS)
    # Another process's limits and priority: 0 is the caller itself.
    judged["prlimit64"] = [*_argument(0), *_unless(IF_EQUAL, 0, _refuse()), *PASS]
    judged["setpriority"] = [*_argument(1), *_unless(IF_EQUAL, 0, _refuse()), *PASS]
    if alone:
        judged["kill"] = [*_argument(0), *_if(IF_EQUAL, own, PASS), *_refuse()]
        judged["tgkill"] = judged["kill"]
        judged["tkill"] = judged["kill"]
    return judged


def _refuse_values(index: int, values: tuple[int, ...]) -> list[Step]:
    """Refuse a call where an argument has one of these values."""
    refusals = (step for value in values for step in _if(IF_EQUAL, value, _refuse()))
    return [*_argument(index), *refusals, *PASS]


def _futimens() -> list[Step]:
    """Allow the times of an open file, which has no path, and refuse those of a path."""
    low = [*_argument(1), *_unless(IF_EQUAL, 0, _refuse())]
    high: list[Step] = [(LOAD, 0, 0, 16 + 8 + 4), *_unless(IF_EQUAL, 0, _refuse())]
    return [*low, *high, *PASS]


def is_known(machine: str) -> bool:
    """Whether there is a filter for this architecture."""
    return machine in AUDIT


def install(*, alone: bool) -> None:
    """Put the filter on this process. The process can gain no privilege any more."""
    steps = program(os.uname().machine, own=os.getpid(), alone=alone)
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    held = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))

    whole = Program(len(steps), ctypes.addressof(held))
    kernel.control_with(kernel.SET_SECCOMP, FILTER, ctypes.byref(whole))
