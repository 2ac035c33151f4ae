"""The native kernels, where this installation has them: which level runs, and their face.

The extension (native/) takes addresses; whoever calls it through here has checked shapes and holds
the arrays or tensors. Nothing here needs torch. Without a compiler at installation there is no
extension, `level()` answers None and torch computes. `PUNA_CPU` chooses a lower level: avx512bf16,
avx512, avx2, neondot, neon or portable.
"""

import os
import sys
from functools import cache
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from puna.device import whole_cores
from puna.errors import ConfigError

try:
    from puna.ops import _native
except ImportError:
    _native = None  # type: ignore[assignment]

__all__ = ["address", "array_address", "extension", "level", "levels", "threads"]


@runtime_checkable
class OnCpu(Protocol):
    """What is asked of a tensor whose address is taken."""

    @property
    def device(self) -> Any:
        """Where it lies."""

    def is_contiguous(self) -> bool:
        """Whether its numbers follow each other."""

    def data_ptr(self) -> int:
        """Where it begins."""


def extension() -> ModuleType:
    """Return the extension module; only for callers that have a level."""
    assert _native is not None, "ask for the level first"
    return _native


def levels() -> tuple[str, ...]:
    """Name the levels that run on this processor, the best first; empty without the extension."""
    return () if _native is None else tuple(_native.levels())


@cache
def level() -> str | None:
    """Return the level that runs: the best, or what PUNA_CPU names; None stands for torch.

    Raises:
        ConfigError: PUNA_CPU names no level that runs here.
    """
    wanted = os.environ.get("PUNA_CPU")
    have = levels()
    if not wanted:
        return have[0] if have else None
    if wanted == "torch":
        return None
    if wanted not in have:
        raise ConfigError(
            f"PUNA_CPU={wanted!r} was given; this machine runs "
            f"{', '.join((*have, 'torch'))}. Choose one of these or unset it."
        )
    return wanted


def threads() -> int:
    """Return how many threads a call may use: torch's number, so that one setting rules both.

    Where nobody imported torch it is the number that torch begins with: what OMP_NUM_THREADS says,
    else the cores, each counted once.
    """
    if (torch := sys.modules.get("torch")) is not None:
        return int(torch.get_num_threads())
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(wanted) if wanted.isdecimal() and int(wanted) else whole_cores()


def address(x: OnCpu | None) -> int:
    """Return where a contiguous tensor begins, 0 for None."""
    if x is None:
        return 0
    assert x.is_contiguous() and x.device.type == "cpu"
    return x.data_ptr()


def array_address(x: NDArray[Any] | None) -> int:
    """Return where a contiguous array begins, 0 for None."""
    if x is None:
        return 0
    assert x.flags.c_contiguous
    return x.ctypes.data
