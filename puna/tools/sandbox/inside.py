"""The first process of a sandbox that bubblewrap has made."""

import os

from puna.tools.sandbox.confine import become_user
from puna.tools.sandbox.keeper import keep
from puna.tools.sandbox.roots import WORK
from puna.tools.sandbox.supervisor import read_plan, refuse


def serve(channel: int, alive: int) -> None:
    """Read the plan, give up what bubblewrap has left, and keep the session."""
    plan = read_plan(channel)
    try:
        become_user(plan)
        os.chdir(WORK)
        keep(plan, channel, alive, alone=False)
    except OSError as error:
        refuse(channel, error)
    os._exit(1)
