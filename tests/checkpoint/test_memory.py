"""Loading peaks near the size of the weights, mapped, converted, joined and decoded."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from puna.checkpoint.gguf import save_gguf
from puna.checkpoint.huggingface import save_huggingface
from puna.checkpoint.meta import save_meta
from puna.checkpoint.names import places
from puna.model.config import ModelConfig

CONFIG = ModelConfig(
    width=768,
    layers=4,
    heads=12,
    kv_heads=4,
    mlp_width=2048,
    vocab=16_000,
    context=64,
    rope_theta=10_000.0,
)

# Loads each model in a child of its own, uses every weight once, and prints how far memory rose.
MEASURE = """
import os, sys, torch
from pathlib import Path
from puna.checkpoint.load import load_model

def memory(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

def measure(path, dtype):
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    model = load_model(path, dtype=getattr(torch, dtype))
    loaded = memory("VmHWM")
    for weight in model.parameters():
        weight.sum()
    print(loaded - before, memory("VmHWM") - before, flush=True)

torch.set_num_threads(1)
warm = torch.randn(64, 64) @ torch.randn(64, 64)
for path, dtype in zip(sys.argv[1::2], sys.argv[2::2]):
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
    else:
        measure(path, dtype)
        os._exit(0)
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """201 MB of random weights in float32, in each format; deleted with the session's folder."""
    folder = tmp_path_factory.mktemp("large")
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {
        place.puna: torch.empty(place.shape).uniform_(generator=generator)
        for place in places(CONFIG)
    }
    save_huggingface(state, CONFIG, folder / "hf32", shard_bytes=60_000_000)
    save_huggingface(state, CONFIG, folder / "hf16", dtype=torch.bfloat16)
    save_meta(state, CONFIG, folder / "meta2", shards=2)
    save_gguf(state, CONFIG, folder / "q8.gguf", kind="Q8_0")
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_loading_peaks_near_the_size_of_the_weights_in_memory(models: Path) -> None:
    """Beside the model a conversion or a join holds the pages of one tensor more.

    The largest tensor here is a quarter of the model; 32 MB are for the process.
    """
    cases = [  # path, dtype in memory, largest tensors in float32 held beside the model
        ("hf32", "float32", 0),
        ("hf16", "bfloat16", 0),
        ("hf16", "float32", 0.5),
        ("hf32", "bfloat16", 1),
        ("meta2", "float32", 1),
        ("meta2", "bfloat16", 1),
        ("q8.gguf", "float32", 1),
        ("q8.gguf", "bfloat16", 1),
    ]
    words = [word for name, dtype, _ in cases for word in (str(models / name), dtype)]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", MEASURE, *words],
        check=True,
        capture_output=True,
        text=True,
        timeout=200,
    )
    rows = [list(map(int, line.split())) for line in done.stdout.splitlines()]
    largest = 4 * CONFIG.vocab * CONFIG.width
    for (name, dtype, held), (loaded, used) in zip(cases, rows, strict=True):
        size = CONFIG.parameters * (4 if dtype == "float32" else 2)
        print(f"{name} as {dtype}: {loaded / size:.2f} loaded, {used / size:.2f} used")
        assert used < 1.05 * size + held * largest + 32_000_000, (name, dtype)
