"""The levels of AVX-512 on a processor that has AVX2 only: SIMDe says each instruction in C++.

Building takes a minute, so the suite leaves it out unless PUNA_AVX512=1 asks for it; it needs
Debian's libsimde-dev. What a compiler makes of the level itself is not tested here (docs/log.md).
"""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.native.program import ROOT, built, run

COMPILER = "g++"
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
# GCC 12 fails (internal error) where it takes structs of 64-byte vectors apart without AVX-512.
HEADER = ROOT / "tests/native/avx512_portable.h"
EMULATED = [*AVX2, "-Wno-psabi", "-fno-tree-sra", "-include", str(HEADER)]
LEVELS = {"portable": [], "avx2": AVX2, "avx512": EMULATED, "avx512bf16": EMULATED}


def can_emulate() -> bool:
    if platform.machine() != "x86_64" or not shutil.which(COMPILER):
        return False
    question = [COMPILER, "-E", "-x", "c++", "-", "-include", "simde/x86/avx512.h"]
    return subprocess.run(question, input=b"", capture_output=True).returncode == 0


@pytest.mark.skipif(
    os.environ.get("PUNA_AVX512") != "1", reason="set PUNA_AVX512=1 to build and run"
)
@pytest.mark.timeout(1800)
def test_the_levels_of_avx512_give_what_the_portable_one_gives(tmp_path: Path) -> None:
    if not can_emulate():
        pytest.skip("SIMDe or a compiler for x86-64 is not installed")
    chooser = "tests/native/every_level.cpp"
    program = built(tmp_path, COMPILER, LEVELS, chooser=chooser)
    assert run(program) == "0 wrong\n"
