"""The launcher's process: makes the sandbox, then waits, and ends it when puna ends.

It stands outside the sandbox and runs no foreign code. A process handle (pidfd) of puna tells it
that puna is gone, however puna went. When this process goes, the keeper is ended by the kernel or
by a pipe that only this process held open, and everything in the sandbox goes with the keeper.
"""

import os
import select

from puna.tools.sandbox import kernel
from puna.tools.sandbox.bubblewrap import arguments
from puna.tools.sandbox.channel import Frames, frame
from puna.tools.sandbox.confine import become_user
from puna.tools.sandbox.group import join_group, make_group, remove_group
from puna.tools.sandbox.keeper import KILL, LEFT, keep
from puna.tools.sandbox.ownership import show_as_owned
from puna.tools.sandbox.plan import Plan
from puna.tools.sandbox.roots import WORK, build_root


def supervise(channel: int) -> None:
    """Read the plan from the channel, start the keeper, and stay until puna or it is gone."""
    plan = read_plan(channel)
    parent = os.pidfd_open(plan.parent)
    if os.getppid() != plan.parent:
        return
    _offer_to_the_kernel()
    try:
        group = make_group(plan)
        if plan.owner != plan.user:
            show_as_owned(plan)
        if plan.way == "namespaces":
            enter_namespaces()
        alive, held = os.pipe()
        keeper = os.fork()
        if keeper == 0:
            join_group(group)
            kernel.control(kernel.SET_DEATH_SIGNAL, KILL)
            os.close(parent)
            os.close(held)  # from now on this process alone keeps it open
            _become_keeper(plan, channel, alive)
    except OSError as error:
        refuse(channel, error)
        return
    os.close(channel)
    child = os.pidfd_open(keeper)
    poll = select.poll()
    poll.register(parent, select.POLLIN)
    poll.register(child, select.POLLIN)
    poll.poll()
    try:
        os.kill(keeper, KILL)
    except ProcessLookupError:
        pass
    _, status = os.waitpid(keeper, 0)
    remove_group(group)
    # The keeper may have seen the channel close a moment before puna was quite dead.
    poll.unregister(child)
    if poll.poll(5000 if os.waitstatus_to_exitcode(status) == LEFT else 0):
        os.execv("/bin/rm", ["rm", "-rf", "--", *plan.temporary])


def read_plan(channel: int) -> Plan:
    """Wait for the plan."""
    frames = Frames()
    while True:
        piece = os.read(channel, 2**16)
        if not piece:
            os._exit(0)
        for _, body in frames.feed(piece):
            return Plan.unpacked(body)


def refuse(channel: int, error: OSError) -> None:
    """Tell puna why the sandbox could not be made."""
    os.write(channel, frame(b"X", (error.strerror or str(error)).encode()))


def enter_namespaces() -> None:
    """Leave this machine's processes, network, names and messages; its files stay until the keeper.

    As root the right to do so is at hand; else a user namespace gives it, in which this user is
    the only one.
    """
    own = kernel.NEW_NAMESPACE
    flags = sum(own[x] for x in ("name", "memory", "processes", "network", "group"))
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        kernel.unshare(flags)
        return
    kernel.unshare(flags | own["user"])
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _become_keeper(plan: Plan, channel: int, alive: int) -> None:
    """Build the walls and keep the session behind them; never returns."""
    try:
        if plan.way == "bubblewrap":
            # The program inside reads the plan from the channel again, as it came.
            os.set_inheritable(channel, True)
            os.set_inheritable(alive, True)
            command = arguments(plan, channel, alive)
            os.write(channel, frame(b"P"))  # asks for the plan once more
            os.execv(command[0], command)
        alone = plan.way != "namespaces" or not build_root(plan)
        if plan.way != "none":
            become_user(plan)
        os.chdir(WORK if plan.is_namespaced else plan.folder)
        keep(plan, channel, alive, alone=alone)
    except OSError as error:
        refuse(channel, error)
    finally:
        os._exit(1)


def _offer_to_the_kernel() -> None:
    """Let the kernel take the sandbox first where memory runs out. Source: proc(5)."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass
