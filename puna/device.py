"""What this machine can do: devices, number formats, cores, memory, and its measured limits.

Shares of a peak in reports and benchmarks refer to the peak measured here in the same run, never to
a data sheet. torch is asked only where it computes: a model that runs from its file starts without
it.
"""

import math
import os
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from puna.errors import ConfigError

if TYPE_CHECKING:
    import torch

FLOATS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Facts about this machine that explain a measurement."""

    processor: str
    cores: int  # that this process may use
    memory_bytes: int
    features: tuple[str, ...]  # of the processor, those that kernels ask for
    accelerator: str | None
    python: str
    torch: str
    system: str

    def table(self) -> dict[str, object]:
        """Return the facts as plain values for JSON."""
        return asdict(self)


def machine() -> Machine:
    """Look at this machine; nothing is run."""
    import torch

    accelerator = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return Machine(
        processor=_processor(),
        cores=usable_cores(),
        memory_bytes=memory_limit(),
        features=cpu_features(),
        accelerator=accelerator,
        python=platform.python_version(),
        torch=torch.__version__,
        system=f"{platform.system()} {platform.machine()}",
    )


def usable_cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may keep busy: those it may run on, or its group's share.

    Args:
        root: where `proc` and `sys` lie.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    shares = [cores or 1]
    for text in _group_files(root, "cpu", "cpu.max"):
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.isdigit():
            shares.append(math.ceil(int(quota) / int(period)))
    quotas = _group_files(root, "cpu", "cpu.cfs_quota_us")
    periods = _group_files(root, "cpu", "cpu.cfs_period_us")
    for quota, period in zip(quotas, periods, strict=False):
        if quota.isdigit() and period.isdigit():  # no limit is -1
            shares.append(math.ceil(int(quota) / int(period)))
    return max(1, min(shares))


def whole_cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may keep busy, where one with two threads counts once.

    Args:
        root: where `proc` and `sys` lie.
    """
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
    cpus = root / "sys/devices/system/cpu"
    tables = [cpus / f"cpu{number}/topology/thread_siblings_list" for number in mine]
    cores = {table.read_text().strip() for table in tables if table.is_file()}
    return min(len(cores) or usable_cores(root), usable_cores(root))


def memory_limit(root: Path = Path("/")) -> int:
    """Return the bytes of memory that this process may use: the machine's, or its group's.

    Args:
        root: where `proc` and `sys` lie.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("memory.max", "memory.limit_in_bytes"):
        limits += [int(text) for text in _group_files(root, "memory", name) if text.isdigit()]
    return min(limits)


def _group_files(root: Path, controller: str, name: str) -> list[str]:
    """Read one file of this process's control group and of every group above it.

    Version 1 keeps a tree for each controller, version 2 one tree for all; inside a container the
    own group may be shown as the root. Source: cgroups(7).
    """
    table = root / "proc/self/cgroup"
    texts: list[str] = []
    for line in table.read_text().splitlines() if table.is_file() else ():
        _, controllers, group = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / controllers
        folder = top / group.lstrip("/")
        for level in (folder, *folder.parents):
            if (level / name).is_file():
                texts.append((level / name).read_text().strip())
            if level == top:
                break
    return texts


def peak_memory() -> int:
    """Return the largest resident size so far, in bytes, of this process and its largest child."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    unit = 1 if platform.system() == "Darwin" else 1024
    return max(own, child) * unit


def cpu_features() -> tuple[str, ...]:
    """Name the instruction sets that decide how fast this processor multiplies."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.is_file() else ""
    line = next((x for x in text.splitlines() if x.startswith(("flags", "Features"))), "")
    known = "avx2 fma f16c avx512f avx512_vnni avx512_bf16 amx_bf16 amx_int8 asimd bf16 i8mm"
    present = set(line.split())
    return tuple(name for name in known.split() if name in present)


def may_have_gpu(root: Path = Path("/")) -> bool:
    """Say whether torch could find a GPU here; only where it cannot may nobody ask it.

    Args:
        root: where `dev` lies.
    """
    if platform.system() == "Darwin":
        return False  # torch's CUDA is for Linux and Windows
    drivers = (
        "nvidiactl",
        "nvidia0",
        "kfd",
        "dxg",
        "nvhost-gpu",
        "nvmap",
    )  # NVIDIA, AMD, WSL, Jetson
    return platform.system() != "Linux" or any((root / "dev" / name).exists() for name in drivers)


def pick_device(name: str = "auto") -> "torch.device":
    """Return the device called `name`; "auto" takes a GPU where there is one.

    Raises:
        ConfigError: the name is unknown, or the device is not on this machine.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (":" in name and not number.isdecimal()):
        raise ConfigError(
            f"device={name!r}; expected 'auto', 'cpu', 'cuda' or 'cuda:0'. Use one of these."
        )
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cuda" and int(number or 0) >= seen:
        have = f"torch sees {seen} GPUs" if seen else "torch sees no GPU"
        raise ConfigError(f"device={name!r}: {have} on this machine. Use 'auto' or 'cpu'.")
    return torch.device(name)


def pick_dtype(name: str = "auto", device: "torch.device | None" = None) -> "torch.dtype":
    """Return the number format of products; "auto" takes bfloat16 where the hardware has it.

    Without the instructions it is emulated, tens of times slower than float32.
    Raises:
        ConfigError: the name is unknown.
    """
    import torch

    short = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
    if name == "auto":
        on_gpu = device is not None and device.type == "cuda"
        fast = torch.cuda.is_bf16_supported(False) if on_gpu else has_fast_bfloat16()
        return torch.bfloat16 if fast else torch.float32
    if short.get(name, name) not in FLOATS:
        raise ConfigError(
            f"dtype={name!r}; expected 'auto', {', '.join(map(repr, FLOATS))}. Use one of these."
        )
    found: torch.dtype = getattr(torch, short.get(name, name))
    return found


def has_fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware."""
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(cpu_features()))


def measure_matrix_peak(dtype: "torch.dtype | None" = None, *, size: int = 1024) -> float:
    """Return the floating-point operations per second of a square product, the best of several.

    Args:
        dtype: of the matrices; None takes float32.
    """
    import torch

    a = torch.ones(size, size, dtype=dtype)
    b = torch.ones(size, size, dtype=dtype)
    return 2 * size**3 / _best_of(lambda: torch.mm(a, b), rounds=7)


def measure_read_bandwidth(*, megabytes: int = 256) -> float:
    """Return the bytes per second of reading memory that no cache holds, the best of several."""
    import torch

    x = torch.ones(megabytes * 250_000, dtype=torch.float32)
    return x.numel() * 4 / _best_of(x.sum, rounds=5)


def _best_of(work: Callable[[], object], *, rounds: int, limit_s: float = 1.0) -> float:
    """Return the shortest time of several rounds, in seconds; fewer where the limit is reached."""
    work()
    times: list[float] = []
    while len(times) < rounds and sum(times) < limit_s:
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.is_file() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
