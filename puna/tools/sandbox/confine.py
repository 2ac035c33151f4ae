"""What a process does to itself before it runs foreign code; none of it can be undone.

The order matters: the user is changed while the right to do so is still held, capabilities go
before the promise that no new ones come, and the filter of system calls is last.
"""

import errno
import os
import resource

from puna.tools.sandbox import kernel, landlock, seccomp
from puna.tools.sandbox.plan import Plan
from puna.tools.sandbox.roots import WORK

KILL = 9  # signal(7)


def become_user(plan: Plan) -> None:
    """Take the user of the plan and lose every capability; called by the keeper."""
    kernel.drop_bounds()
    if plan.user != os.geteuid():
        os.setgroups([])
        os.setresgid(plan.group, plan.group, plan.group)
        os.setresuid(plan.user, plan.user, plan.user)
    kernel.drop_capabilities()
    kernel.control(kernel.SET_NO_NEW_PRIVILEGES, 1)
    kernel.control(kernel.SET_DEATH_SIGNAL, KILL)  # a change of user has cleared it
    kernel.control(kernel.SET_DUMPABLE, 0)  # its memory is closed to the code, which has its user


def confine(plan: Plan, *, alone: bool) -> None:
    """Bound what this process may use and call; called by every worker before its first code.

    Args:
        plan: the limits.
        alone: the session has no process tree of its own that could be counted.
    """
    check_walls(plan, alone=alone)
    limit_resources(plan, alone=alone)
    if plan.way == "none":
        return
    kernel.control(kernel.SET_DUMPABLE, 1)  # the keeper counts its memory and its open files
    if landlock.version():
        landlock.restrict(*visible(plan))
    if seccomp.is_known(os.uname().machine):
        seccomp.install(alone=alone)


def check_walls(plan: Plan, *, alone: bool) -> None:
    """Refuse a sandbox in which files, the network or other processes are open.

    Namespaces close all three. Landlock closes the files; the filter of system calls closes the
    network and the other processes where no namespace does.

    Raises:
        OSError: one of them would be open.
    """
    if plan.way == "none":
        return
    if not plan.is_namespaced and not landlock.version():
        raise OSError(errno.ENOSYS, "this kernel has no Landlock")
    machine = os.uname().machine
    if alone and not seccomp.is_known(machine):
        raise OSError(errno.ENOSYS, f"there is no filter of system calls for {machine}")


def visible(plan: Plan) -> tuple[list[str], list[str]]:
    """Return what the code may read, and what it may write, by the paths that it sees."""
    devices = ["/dev/null", "/dev/zero", "/dev/full"]
    if plan.is_namespaced:
        return ["/"], [WORK, "/tmp", "/dev/shm", *devices]
    random = ["/dev/urandom", "/dev/random"]
    return [*plan.shown, *random], [plan.folder, plan.scratch, *devices]


def limit_resources(plan: Plan, *, alone: bool) -> None:
    """Set the limits that the kernel counts for each process, or for the user."""
    address = min(plan.address_bytes, 2 * plan.memory_bytes) if alone else plan.address_bytes
    bounds = {
        resource.RLIMIT_AS: address,
        resource.RLIMIT_FSIZE: plan.file_bytes,
        resource.RLIMIT_NOFILE: plan.open_files,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 2**20,
        resource.RLIMIT_STACK: 8 * 2**20,
    }
    if hasattr(resource, "RLIMIT_NPROC"):
        bounds[resource.RLIMIT_NPROC] = plan.processes
    for kind, bound in bounds.items():
        _, most = resource.getrlimit(kind)
        if most != resource.RLIM_INFINITY:
            bound = min(bound, most)
        resource.setrlimit(kind, (bound, bound))
    if hasattr(os, "sched_getaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-plan.cores :])
