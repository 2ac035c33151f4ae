"""What a look at this machine finds: each fact with whether it is well and what would mend it.

`puna doctor` shows these. Nothing is downloaded and no network is touched; the two measurements
take about a second each.
"""

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from puna.device import (
    Machine,
    has_fast_bfloat16,
    measure_matrix_peak,
    measure_read_bandwidth,
)
from puna.files import kept_folder
from puna.model.family import FAMILY

GIB = 2**30
CACHE_TOKENS = 8192  # of KV cache, beside the weights, when sizes are compared with the memory
LIBRARIES = ("numpy", "safetensors", "sentencepiece", "tiktoken", "jinja2", "rich", "tomli_w")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fact about this machine."""

    section: str
    name: str
    value: str
    is_well: bool = True
    advice: str = ""  # what to do where it is not, in a phrase


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Whether one member of the family fits into this machine's memory."""

    name: str
    parameters: int
    bfloat16_bytes: int  # weights and the cache of `CACHE_TOKENS` tokens
    float32_bytes: int
    fits_bfloat16: bool
    fits_float32: bool
    most_tokens_per_s: float  # memory bandwidth over the bytes of the smallest format that fits


def core_findings() -> list[Finding]:
    """Check that Python, the libraries and the model itself work."""
    import torch

    version = platform.python_version()
    findings = [
        Finding(section="core", name="python", value=version),
        Finding(section="core", name="torch", value=torch.__version__),
    ]
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            findings.append(
                Finding(
                    section="core",
                    name=name,
                    value=f"cannot be imported ({error})",
                    is_well=False,
                    advice="pip install --force-reinstall puna",
                )
            )
    difference = _cached_difference()
    is_well = difference < 1e-4
    findings.append(
        Finding(
            section="core",
            name="model",
            value=f"a tiny Llama reads in pieces as it reads at once (difference {difference:.0e})",
            is_well=is_well,
            advice="" if is_well else "torch computes wrongly here; install another version of it",
        )
    )
    return findings


def _cached_difference() -> float:
    """Return the largest logit difference between reading at once and through the cache."""
    import torch

    from puna.model.cache import KVCache
    from puna.model.config import ModelConfig
    from puna.model.init import initialise
    from puna.model.llama import Llama

    config = ModelConfig(
        width=32, layers=2, heads=4, kv_heads=2, mlp_width=48, vocab=64, context=16
    )
    model = Llama(config).eval().requires_grad_(False)
    initialise(model, seed=0)
    ids = torch.arange(2, 12)[None]
    cache = KVCache(config, batch=1, capacity=16)
    pieces = torch.cat([model(ids[:, :7], cache=cache), model(ids[:, 7:], cache=cache)], dim=1)
    return float((model(ids) - pieces).abs().max())


def machine_findings(machine: Machine, *, matrix_peak: float, bandwidth: float) -> list[Finding]:
    """Tell what the processor, the memory and the GPU are and do."""
    import torch

    threads = torch.get_num_threads()
    right_threads = threads <= machine.cores
    fast = has_fast_bfloat16()
    features = ", ".join(machine.features) or "none that matter here"
    gpu = machine.accelerator or "none that torch sees"
    return [
        Finding(section="machine", name="system", value=machine.system),
        Finding(section="machine", name="processor", value=f"{machine.processor} ({features})"),
        Finding(section="machine", name="cores", value=str(machine.cores)),
        Finding(
            section="machine",
            name="threads",
            value=f"torch uses {threads}",
            is_well=right_threads,
            advice="" if right_threads else f"set OMP_NUM_THREADS={machine.cores}",
        ),
        Finding(
            section="machine", name="memory", value=f"{machine.memory_bytes / GIB:.1f} GiB usable"
        ),
        Finding(section="machine", name="gpu", value=gpu),
        Finding(section="machine", name="float32", value=f"{matrix_peak / 1e9:,.0f} GFLOP/s"),
        Finding(
            section="machine",
            name="bfloat16",
            value=_bfloat16_peak() if fast else "emulated, slower than float32; it saves memory",
        ),
        Finding(section="machine", name="reading", value=f"{bandwidth / 1e9:.1f} GB/s of memory"),
    ]


def _bfloat16_peak() -> str:
    import torch

    return f"{measure_matrix_peak(torch.bfloat16) / 1e9:,.0f} GFLOP/s"


def measured() -> tuple[float, float]:
    """Return the measured matrix peak in float32 and the reading bandwidth, per second."""
    return measure_matrix_peak(), measure_read_bandwidth()


def extras_findings() -> list[Finding]:
    """Tell which extras are installed and what brings the others."""
    try:
        lines = importlib.metadata.requires("puna") or []
    except importlib.metadata.PackageNotFoundError:
        return [
            Finding(
                section="extras",
                name="puna",
                value="it runs from its sources and is not installed",
                is_well=False,
                advice="pip install -e . in its folder",
            )
        ]
    return [_extra(name, needs) for name, needs in sorted(extras_of(lines).items())]


def extras_of(requirements: list[str]) -> dict[str, set[str]]:
    """Group requirement lines by extra; an extra that names others has all that they need."""
    direct: dict[str, set[str]] = {}
    for line in requirements:
        marker = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        if marker:
            direct.setdefault(marker[1], set()).add(line.partition(";")[0].strip())

    def resolved(extra: str) -> set[str]:
        names: set[str] = set()
        for line in direct.get(extra, ()):
            inner = re.match(r"puna\[([\w,\s-]+)\]", line)
            if inner:
                names |= {n for e in inner[1].split(",") for n in resolved(e.strip())}
            else:
                names.add(re.split(r"[\s<>=!~\[(]", line)[0])
        return names

    return {extra: resolved(extra) for extra in direct}


def _extra(name: str, needs: set[str]) -> Finding:
    missing = sorted(need for need in needs if not _is_installed(need))
    return Finding(
        section="extras",
        name=name,
        value=f"missing: {', '.join(missing)}" if missing else "installed",
        is_well=not missing,
        advice=f"pip install 'puna[{name}]'" if missing else "",
    )


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def places_findings() -> list[Finding]:
    """Tell where things are kept, how much room there is, and whether hub ids will work."""
    home = kept_folder()
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    writable = os.access(existing, os.W_OK)
    rooms = {"disk here": Path.cwd(), "disk temporary": Path(tempfile.gettempdir())}
    findings = [
        Finding(section="places", name=name, value=f"{shutil.disk_usage(at).free / GIB:.1f} GiB")
        for name, at in rooms.items()
    ]
    return [
        *findings,
        Finding(
            section="places",
            name="PUNA_HOME",
            value=str(home) + ("" if writable else " (not writable)"),
            is_well=writable,
            advice="" if writable else "set PUNA_HOME to a folder of yours",
        ),
        _hub(),
    ]


def sandbox_findings() -> list[Finding]:
    """Tell what the code of a model would be held by, after building every sandbox once."""
    from puna.tools.sandbox.layers import look

    return [
        Finding(
            section="sandbox",
            name=layer.name,
            value=layer.detail,
            is_well=layer.is_active,
            advice=layer.advice,
        )
        for layer in look()
    ]


def _hub() -> Finding:
    """Say whether hub ids can be used, from settings alone."""
    if not _is_installed("huggingface-hub"):
        return Finding(
            section="places",
            name="hub ids",
            value="off: the extra `hub` is missing",
            is_well=False,
            advice="pip install 'puna[hub]'",
        )
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    token = "HF_TOKEN is set" if os.environ.get("HF_TOKEN") else "HF_TOKEN is not set"
    state = "only what the cache holds (HF_HUB_OFFLINE)" if offline else "on"
    return Finding(section="places", name="hub ids", value=f"{state}, {token}")


def fits(memory_bytes: int, bandwidth: float) -> list[Fit]:
    """Compare every member of the family with the memory."""
    found: list[Fit] = []
    for name, member in FAMILY.items():
        config = member.config
        tokens = min(CACHE_TOKENS, config.context)
        half = 2 * config.parameters + tokens * config.cache_bytes_per_token(2)
        whole = 4 * config.parameters + tokens * config.cache_bytes_per_token(4)
        found.append(
            Fit(
                name=name,
                parameters=config.parameters,
                bfloat16_bytes=half,
                float32_bytes=whole,
                fits_bfloat16=half <= memory_bytes,
                fits_float32=whole <= memory_bytes,
                most_tokens_per_s=bandwidth / (2 * config.parameters),
            )
        )
    return found
