"""The levels of 64-bit ARM, built by a cross compiler and run by an emulator.

Building takes a minute, so the suite leaves it out unless PUNA_ARM=1 asks for it; it needs Debian's
g++-aarch64-linux-gnu and qemu-user.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
LEVELS = {"portable": [], "neon": [], "neondot": ["-march=armv8.2-a+dotprod"]}


@pytest.mark.skipif(os.environ.get("PUNA_ARM") != "1", reason="set PUNA_ARM=1 to build and run")
@pytest.mark.skipif(
    not (shutil.which(COMPILER) and shutil.which(EMULATOR)),
    reason="the cross compiler or the emulator is not installed",
)
@pytest.mark.timeout(1800)
def test_the_levels_of_arm_give_what_the_portable_one_gives(tmp_path: Path) -> None:
    objects = []
    for level, flags in LEVELS.items():
        named = [*flags, f"-DPUNA_LEVEL={level}", f"-DPUNA_LEVEL_{level.upper()}"]
        objects.append(compiled("native/kernels.cpp", tmp_path / f"{level}.o", named))
    for source in sorted((ROOT / "native").glob("*.cpp")):
        if source.stem not in ("kernels", "module"):
            objects.append(compiled(f"native/{source.name}", tmp_path / f"{source.stem}.o", []))
    objects.append(compiled("tests/native/kernels_test.cpp", tmp_path / "test.o", []))
    run(COMPILER, "-static", "-pthread", *objects, "-o", str(tmp_path / "test"))
    assert run(EMULATOR, str(tmp_path / "test")) == "0 wrong\n"


def compiled(source: str, target: Path, flags: list[str]) -> str:
    options = ["-std=c++20", "-O2", f"-I{ROOT / 'native'}", *flags]
    run(COMPILER, *options, "-c", str(ROOT / source), "-o", str(target))
    return str(target)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout
