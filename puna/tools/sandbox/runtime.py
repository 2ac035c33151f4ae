"""What the code in a sandbox may read of this machine: Python, its packages, the libraries.

No home, no `/etc` with accounts or keys, nothing of this process's environment.
"""

import os
import re
import sys
import sysconfig
from pathlib import Path

SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin", "/nix/store", "/opt/conda")
SETTINGS = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
)
PACKAGES = ("site-packages", "dist-packages")


def import_paths() -> list[str]:
    """Return where imports look: the standard library and the installed packages."""
    standard = {str(Path(x).resolve()) for x in (_path("stdlib"), _path("platstdlib"))}
    kept = []
    for path in sys.path:
        place = Path(path).resolve() if path else Path()
        if not path or not place.exists():
            continue
        inside_standard = any(place.is_relative_to(x) for x in standard)
        if place.name in PACKAGES or inside_standard:
            kept.append(str(place))
    return list(dict.fromkeys([*sorted(standard), *kept]))


def shown() -> list[str]:
    """Return the folders and files that may be read, without links and without repetition."""
    python = Path(sys.executable)
    found = {x for x in map(Path, (*SYSTEM, *SETTINGS)) if x.exists() and not x.is_symlink()}
    found |= {Path(x) for x in import_paths()}
    if _is_venv():
        found.add(Path(sys.prefix) / "pyvenv.cfg")
    found.add(Path(sys.base_prefix) / "lib")
    while python.is_symlink():  # every step of the way to the interpreter itself
        found.add(python.parent)
        python = python.parent / python.readlink()
    found.add(python.parent)
    return _without_nested(sorted({str(x) for x in found if x.exists()}))


def environment(*, home: str, cores: int) -> dict[str, str]:
    """Return the whole environment of the code; nothing of this process's own goes in.

    Args:
        home: where programs may write their caches; a temporary folder.
        cores: threads that numerical libraries start.
    """
    threads = {f"{name}_NUM_THREADS": str(cores) for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
    return threads | {
        "HOME": home,
        "TMPDIR": home,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
        "LANG": "C.UTF-8",
        "USER": "sandbox",
        "LOGNAME": "sandbox",
        "MPLBACKEND": "agg",
        "MPLCONFIGDIR": home,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
        "PYTHONPATH": os.pathsep.join(x for x in import_paths() if Path(x).name in PACKAGES),
    }


def crowd(user: int) -> int:
    """Return how many threads a user has on this machine; the kernel's limit counts them too."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid == user:
                count += sum(1 for _ in (process / "task").iterdir())
        except OSError:
            continue  # it has ended
    return count


def counts_by_namespace(release: str) -> bool:
    """Whether a Linux of this release counts a user's threads for each user namespace (5.14)."""
    numbers = re.findall(r"\d+", release)
    return [int(x) for x in numbers[:2]] >= [5, 14]


def _path(name: str) -> str:
    return sysconfig.get_path(name)


def _is_venv() -> bool:
    return sys.prefix != sys.base_prefix


def _without_nested(paths: list[str]) -> list[str]:
    """Leave out what lies below another path of the list, and resolve no link in them."""
    kept: list[str] = []
    for path in paths:
        if not any(Path(path).is_relative_to(other) for other in kept):
            kept.append(path)
    return kept
