"""A control group of the session's own, where the system lets this user make one.

The kernel then counts memory and processes of the whole sandbox exactly, beside the keeper's own
count. A user's services and a container with its own group have that right; elsewhere nothing is
lost but the exactness. Source: the kernel's cgroup-v2 documentation.
"""

import os

from puna.tools.sandbox.plan import Plan

TOPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
OWN_PROCESSES = 2  # the keeper, and the worker before it starts others
SPARE_BYTES = 64 * 2**20  # for the keeper, the pipes and the page tables


def make_group(
    plan: Plan, *, tops: tuple[str, ...] = TOPS, table: str = "/proc/self/cgroup"
) -> str:
    """Make a group with the plan's limits and return its path, "" where that is not allowed.

    Args:
        plan: the limits.
        tops: where the hierarchy may be mounted.
        table: the file that names this process's group.
    """
    for folder in _candidates(tops, table):
        made = f"{folder}/puna-{os.getpid()}"
        try:
            os.mkdir(made)
        except OSError:
            continue
        if _limited(made, plan):
            return made
        remove_group(made)
    return ""


def join_group(made: str) -> bool:
    """Move this process into the group, if there is one; what it starts is then in it too."""
    return bool(made) and _written(f"{made}/cgroup.procs", 0)  # 0 is the writer itself


def remove_group(made: str) -> None:
    """Remove the group, if there is one, when its processes have ended."""
    try:
        if made:
            os.rmdir(made)
    except OSError:
        pass  # a process is still ending; an empty group costs nothing


def _candidates(tops: tuple[str, ...], table: str) -> list[str]:
    """Return the own group's folder and those above it, the nearest first.

    A group that holds processes hands no limits to groups below it, so the right place is often
    beside the own group.
    """
    top = next((x for x in tops if os.path.exists(f"{x}/cgroup.controllers")), None)
    try:
        with open(table) as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    own = next((line[3:] for line in lines if line.startswith("0::/")), None)
    if top is None or own is None:
        return []
    found = []
    while own not in ("", "/"):
        found.append(top + own)
        own = os.path.dirname(own)
    return [*found, top]


def _limited(made: str, plan: Plan) -> bool:
    """Write the limits; return whether the memory is limited."""
    if not os.path.exists(f"{made}/memory.max"):
        return False
    _written(f"{made}/memory.swap.max", 0)
    _written(f"{made}/pids.max", plan.processes + OWN_PROCESSES)
    most = plan.memory_bytes + 2 * plan.scratch_bytes + SPARE_BYTES
    return _written(f"{made}/memory.max", most)


def _written(path: str, value: int) -> bool:
    try:
        with open(path, "w") as file:
            file.write(str(value))
    except OSError:
        return False
    return True
