"""What this machine can do: limits of control groups, names of devices and formats, peaks."""

import dataclasses
import json
import os
import platform
from pathlib import Path

import pytest
import torch

from puna import device
from puna.device import (
    machine,
    may_have_gpu,
    measure_matrix_peak,
    measure_read_bandwidth,
    memory_limit,
    peak_memory,
    pick_device,
    pick_dtype,
    usable_cores,
    whole_cores,
)
from puna.errors import ConfigError

GIB = 2**30


def system(root: Path, table: str, files: dict[str, str]) -> Path:
    """Lay out `/proc/self/cgroup` and the files of groups under a folder."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(table)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def test_the_memory_of_a_group_above_counts_too(tmp_path: Path) -> None:
    files = {"user/job/memory.max": "max", "user/memory.max": str(GIB), "memory.max": "max"}
    assert memory_limit(system(tmp_path, "0::/user/job\n", files)) == GIB


def test_version_1_groups_limit_memory(tmp_path: Path) -> None:
    table = "4:memory:/box/1\n1:cpu,cpuacct:/box/1\n0::/\n"
    files = {
        "memory/box/1/memory.limit_in_bytes": str(GIB // 2),
        "memory/memory.limit_in_bytes": "9223372036854771712",
    }
    assert memory_limit(system(tmp_path, table, files)) == GIB // 2


def test_a_container_sees_its_group_as_the_root(tmp_path: Path) -> None:
    """The path in the table is the host's; only the top folder is there."""
    files = {"memory.max": str(GIB)}
    assert memory_limit(system(tmp_path, "0::/docker/abc\n", files)) == GIB


def test_without_groups_the_machine_is_the_limit(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) > GIB // 4
    assert usable_cores(tmp_path) >= 1


@pytest.mark.parametrize(
    ("table", "files"),
    [
        ("0::/\n", {"cpu.max": "50000 100000"}),
        (
            "1:cpu,cpuacct:/box\n0::/\n",
            {
                "cpu,cpuacct/box/cpu.cfs_quota_us": "50000",
                "cpu,cpuacct/box/cpu.cfs_period_us": "100000",
                "cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
        ),
    ],
)
def test_a_share_of_processor_time_limits_the_cores(tmp_path: Path, table, files) -> None:
    assert usable_cores(system(tmp_path, table, files)) == 1


def test_a_core_with_two_threads_counts_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(device, "usable_cores", lambda root: 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    assert whole_cores(tmp_path) == 4  # nothing says which belong together
    for number, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{number}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{siblings}\n")
    assert whole_cores(tmp_path) == 2
    monkeypatch.setattr(device, "usable_cores", lambda root: 1)
    assert whole_cores(tmp_path) == 1


def test_a_gpu_is_looked_for_by_its_driver(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert not may_have_gpu(tmp_path)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    assert may_have_gpu(tmp_path)
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    assert may_have_gpu(tmp_path / "empty")  # nobody knows: torch is asked


def test_facts_of_the_machine_are_plain_values() -> None:
    facts = machine()
    assert json.loads(json.dumps(facts.table()))["cores"] == facts.cores
    assert {field.name for field in dataclasses.fields(facts)} == set(facts.table())
    assert facts.processor
    assert 10 * 2**20 < peak_memory() < facts.memory_bytes


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "mps", "", "cpu:", "meta"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="expected 'auto', 'cpu', 'cuda'"):
        pick_device(name)


def test_a_gpu_that_is_not_there_is_said_so(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="torch sees no GPU"):
        pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ConfigError, match=r"'cuda:2': torch sees 2 GPUs"):
        pick_device("cuda:2")


@pytest.mark.parametrize(
    ("features", "dtype"),
    [
        (("avx2", "fma"), torch.float32),
        (("avx512f", "avx512_bf16"), torch.bfloat16),
        (("asimd", "bf16"), torch.bfloat16),
    ],
)
def test_the_format_follows_the_processor(features, dtype, monkeypatch) -> None:
    monkeypatch.setattr(device, "cpu_features", lambda: features)
    assert pick_dtype("auto", torch.device("cpu")) == dtype


def test_formats_have_short_names_and_others_are_refused() -> None:
    assert pick_dtype("bf16") == pick_dtype("bfloat16") == torch.bfloat16
    with pytest.raises(ConfigError, match="dtype='int8'; expected 'auto', 'float32'"):
        pick_dtype("int8")


def test_peaks_are_measured_in_plausible_units() -> None:
    """Any processor of this century computes and reads more than these, and less than a cluster."""
    assert 1e7 < measure_matrix_peak(size=64) < 1e15
    assert 1e7 < measure_read_bandwidth(megabytes=4) < 1e14
