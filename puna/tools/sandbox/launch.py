"""The program that puna starts for each session: `python -I -S launch.py CHANNEL [ALIVE]`.

It loads this room's modules alone. Their packages are stood in for, because what `puna` itself
imports takes longer than the start of a sandbox may.
"""

import sys


def load_room_alone() -> None:
    """Let `import puna.tools.sandbox.x` find this folder without running any `__init__`."""
    here = __file__.rpartition("/")[0]
    for name, path in {"puna": [], "puna.tools": [], "puna.tools.sandbox": [here]}.items():
        package = type(sys)(name)
        package.__path__ = path
        sys.modules[name] = package


if __name__ == "__main__":
    load_room_alone()
    if len(sys.argv) > 2:
        from puna.tools.sandbox.inside import serve

        serve(int(sys.argv[1]), int(sys.argv[2]))
    else:
        from puna.tools.sandbox.supervisor import supervise

        supervise(int(sys.argv[1]))
