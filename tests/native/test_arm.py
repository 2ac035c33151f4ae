"""The levels of 64-bit ARM, built by a cross compiler and run by an emulator.

Building takes a minute, so the suite leaves it out unless PUNA_ARM=1 asks for it; it needs Debian's
g++-aarch64-linux-gnu and qemu-user.
"""

import os
import shutil
from pathlib import Path

import pytest

from tests.native.program import built, run

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
LEVELS = {"portable": [], "neon": [], "neondot": ["-march=armv8.2-a+dotprod"]}


@pytest.mark.skipif(os.environ.get("PUNA_ARM") != "1", reason="set PUNA_ARM=1 to build and run")
@pytest.mark.skipif(
    not (shutil.which(COMPILER) and shutil.which(EMULATOR)),
    reason="the cross compiler or the emulator is not installed",
)
@pytest.mark.timeout(1800)
def test_the_levels_of_arm_give_what_the_portable_one_gives(tmp_path: Path) -> None:
    program = built(tmp_path, COMPILER, LEVELS, link=["-static"])
    assert run(EMULATOR, program) == "0 wrong\n"
