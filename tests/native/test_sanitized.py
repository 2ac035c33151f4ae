"""The native code under the address and undefined-behaviour sanitizers.

A build of every level takes a minute or more, so the suite leaves it out unless PUNA_SANITIZE asks:
PUNA_SANITIZE=address,undefined pytest tests/native (or thread).
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "native"
SANITIZERS = os.environ.get("PUNA_SANITIZE", "")


@pytest.mark.skipif(not SANITIZERS, reason="set PUNA_SANITIZE=address,undefined to build and run")
@pytest.mark.skipif(not shutil.which("cmake"), reason="cmake is not installed")
@pytest.mark.timeout(900)
def test_the_native_program_touches_nothing_that_is_not_its_own(tmp_path: Path) -> None:
    commands = (
        [
            "cmake", "-S", NATIVE, "-B", tmp_path, "-DPUNA_MODULE=OFF", "-DPUNA_PROGRAM=ON",
            f"-DPUNA_SANITIZE={SANITIZERS}",
        ],
        ["cmake", "--build", tmp_path, "--parallel", "2"],
        [tmp_path / "kernels_test"],
    )  # fmt: skip
    for command in commands:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout == "0 wrong\n"
