"""The test program of the kernels, built by a compiler for some processor levels.

test_arm.py and test_avx512.py run it by emulation; test_sanitized.py builds it with CMake.
"""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


def built(
    folder: Path,
    compiler: str,
    levels: Mapping[str, Sequence[str]],
    *,
    chooser: str = "native/cpu.cpp",
    link: Sequence[str] = (),
) -> str:
    """Build the program in `folder`; `chooser` says which levels may run.

    Args:
        levels: the compiler's options for each level.
    """
    objects = [
        compiled(
            compiler,
            "native/kernels.cpp",
            folder / f"{level}.o",
            [*options, f"-DPUNA_LEVEL={level}", f"-DPUNA_LEVEL_{level.upper()}"],
        )
        for level, options in levels.items()
    ]
    others = [path.name for path in sorted((ROOT / "native").glob("*.cpp"))]
    sources = [f"native/{n}" for n in others if n not in ("kernels.cpp", "module.cpp", "cpu.cpp")]
    for source in (*sources, chooser, "tests/native/kernels_test.cpp"):
        objects.append(compiled(compiler, source, folder / f"{Path(source).stem}.o", []))
    program = str(folder / "test")
    run(compiler, *link, "-pthread", *objects, "-o", program)
    return program


def compiled(compiler: str, source: str, target: Path, options: Sequence[str]) -> str:
    """Compile one file to `target`, whose path is returned."""
    options = ["-std=c++20", "-O2", f"-I{ROOT / 'native'}", *options]
    run(compiler, *options, "-c", str(ROOT / source), "-o", str(target))
    return str(target)


def run(*command: str) -> str:
    """Run a command that must succeed; return what it prints."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout
