"""The filter of system calls, run by a machine of a few lines for both architectures."""

import errno
import struct
from dataclasses import dataclass

import pytest

from puna.tools.sandbox.seccomp import ALLOW, ERROR, KILL, Step, program
from puna.tools.sandbox.syscalls import AUDIT, COLUMN, NEVER, NEW_PROCESSES, PATH_CHANGES, number

EPERM, ENOSYS = ERROR | errno.EPERM, ERROR | errno.ENOSYS
MACHINES = tuple(AUDIT)
# Calls that every program makes; their numbers differ between the tables.
USUAL = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "mmap": (9, 222),
    "brk": (12, 214),
    "openat": (257, 56),
    "socketpair": (53, 199),
    "futex": (202, 98),
    "exit_group": (231, 94),
    "getrandom": (318, 278),
    "statx": (332, 291),
}


@dataclass
class Call:
    """One system call as the kernel shows it to a filter."""

    machine: str
    name: str = ""
    arguments: tuple[int, ...] = ()
    at: int | None = None

    def answer(self, *, alone: bool = False) -> int:
        at = self.at if self.at is not None else number(self.name, self.machine)
        assert at is not None
        filled = (*self.arguments, 0, 0, 0, 0, 0, 0)[:6]
        data = struct.pack("<IIQ6Q", at, AUDIT[self.machine], 0, *filled)
        return run(program(self.machine, own=77, alone=alone), data)


def run(steps: list[Step], data: bytes) -> int:
    """Run a program of the kernel's packet machine on `data`."""
    value, at = 0, 0
    while True:
        code, if_true, if_false, constant = steps[at]
        at += 1
        match code:
            case 0x20:
                value = int(struct.unpack_from("<I", data, constant)[0])
            case 0x15:
                at += if_true if value == constant else if_false
            case 0x25:
                at += if_true if value > constant else if_false
            case 0x45:
                at += if_true if value & constant else if_false
            case 0x06:
                return constant
            case _:
                raise AssertionError(f"unknown step {code:#x}")


@pytest.mark.parametrize("machine", MACHINES)
def test_every_listed_call_is_refused_and_usual_ones_pass(machine: str) -> None:
    for name in NEVER:
        if number(name, machine) is not None:
            assert Call(machine, name).answer() == EPERM, name
    for name, columns in USUAL.items():
        assert Call(machine, at=columns[COLUMN[machine]]).answer() == ALLOW, name
        assert Call(machine, at=columns[COLUMN[machine]]).answer(alone=True) == ALLOW, name


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_that_only_a_lone_process_may_not_make(machine: str) -> None:
    for name in (*NEW_PROCESSES, *PATH_CHANGES):
        if number(name, machine) is None:
            continue
        assert Call(machine, name).answer() == ALLOW, name
        if name != "utimensat":
            assert Call(machine, name).answer(alone=True) == EPERM, name
    at_path = (5, 2**32, 0, 0)  # the lower half of the address is 0
    assert Call(machine, "utimensat", at_path).answer(alone=True) == EPERM
    assert Call(machine, "utimensat", (5, 12, 0, 0)).answer(alone=True) == EPERM
    assert Call(machine, "utimensat", (5, 0, 0, 0)).answer(alone=True) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_no_flag_of_a_new_namespace_passes(machine: str) -> None:
    thread = 0x3D0F00  # what pthread_create asks for
    for flag in (0x20000, *(1 << bit for bit in range(25, 31))):
        assert Call(machine, "clone", (flag | 17,)).answer() == EPERM
        assert Call(machine, "clone", (flag | thread,)).answer(alone=True) == EPERM
    assert Call(machine, "clone", (17,)).answer() == ALLOW  # fork
    assert Call(machine, "clone", (0x4111,)).answer() == ALLOW  # vfork
    assert Call(machine, "clone", (17,)).answer(alone=True) == EPERM
    for alone in (False, True):
        assert Call(machine, "clone", (thread,)).answer(alone=alone) == ALLOW
        assert Call(machine, "clone3", (thread,)).answer(alone=alone) == ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
def test_only_its_own_process_is_in_reach(machine: str) -> None:
    for name in ("kill", "tgkill", "tkill"):
        assert Call(machine, name, (77, 9)).answer(alone=True) == ALLOW
        for other in (1, 78, 0, 2**64 - 1, 2**64 - 77):
            assert Call(machine, name, (other, 9)).answer(alone=True) == EPERM
    assert Call(machine, "prlimit64", (0,)).answer() == ALLOW
    assert Call(machine, "prlimit64", (1,)).answer() == EPERM
    assert Call(machine, "setpriority", (0, 0, 5)).answer() == ALLOW
    assert Call(machine, "setpriority", (0, 1, 5)).answer() == EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_options_that_the_keeper_relies_on_stay(machine: str) -> None:
    for option, expected in ((1, EPERM), (4, EPERM), (15, ALLOW), (38, ALLOW), (0x59616D61, EPERM)):
        assert Call(machine, "prctl", (option,)).answer() == expected
    assert Call(machine, "ioctl", (0, 0x5412)).answer() == EPERM
    assert Call(machine, "ioctl", (0, 0xFFFFFFFF_00005412)).answer() == EPERM
    assert Call(machine, "ioctl", (0, 0x5401)).answer() == ALLOW
    assert Call(machine, "ioctl", (0, 0x8901)).answer() == EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_the_kernel_is_not_made_to_send_a_signal(machine: str) -> None:
    """A file's owner is signalled when it can be read: that owner must stay the process itself."""
    for command, expected in ((8, EPERM), (15, EPERM), (1, ALLOW), (3, ALLOW), (1030, ALLOW)):
        assert Call(machine, "fcntl", (0, command, 1)).answer() == expected


def test_calls_of_the_future_and_of_other_machines_do_not_pass() -> None:
    for machine in MACHINES:
        assert Call(machine, at=457).answer() == ENOSYS
        assert Call(machine, at=0x4000_0001).answer() == ENOSYS
        foreign = struct.pack("<IIQ6Q", 0, 0x4000_0003, 0, *[0] * 6)  # 32-bit x86
        assert run(program(machine, own=77, alone=False), foreign) == KILL


def test_jumps_stay_within_what_one_step_can_say() -> None:
    for machine in MACHINES:
        for alone in (False, True):
            steps = program(machine, own=77, alone=alone)
            assert len(steps) < 4096  # BPF_MAXINSNS, linux/bpf_common.h
            for code, if_true, if_false, constant in steps:
                assert max(if_true, if_false) < 256
                assert 0 <= constant < 2**32
                assert code in (0x20, 0x15, 0x25, 0x45, 0x06)
