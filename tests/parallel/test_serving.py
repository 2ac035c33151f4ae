"""`torchrun -m puna serve`: one model in two processes, over HTTP, to its end and to its death."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest
import torch

from puna.checkpoint.huggingface import save_huggingface
from puna.checkpoint.open import open_checkpoint
from puna.checkpoint.quantize import quantize_checkpoint
from puna.infer.adapters import with_adapter
from puna.llm import load
from puna.quant.recipe import as_recipe
from puna.serve.embeddings import vector
from tests.infer.test_adapters import save
from tests.llm.folders import save_folder
from tests.llm.scripted import BYTES
from tests.parallel.impatient import SILENCE_S
from tests.parallel.test_adapters import adapter_of
from tests.parallel.test_low_bits import model

ROOT = Path(__file__).parents[2]
ASKED = {"prompt": "ab", "max_tokens": 12, "temperature": 0, "ignore_eos": True}


@contextlib.contextmanager
def served(
    folder: Path, *options: str, module: str = "puna"
) -> Iterator[tuple[str, list[subprocess.Popen[str]]]]:
    """Start two ranks as torchrun does; yield the address and the processes."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = str(door.getsockname()[1])
    command = [sys.executable, "-m", module, "serve", str(folder), "--port", "0", *options]
    command += ["--cache-tokens", "2048", "--device", "cpu", "--dtype", "float32"]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=os.environ | shared | {"RANK": str(rank), "WORLD_SIZE": "2"},
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        assert ranks[0].stdout is not None and ranks[0].stderr is not None
        line = ranks[0].stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, line + ranks[0].stderr.read()
        yield found[0], ranks
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()


def complete(url: str, **more: object) -> httpx2.Response:
    return httpx2.post(f"{url}/v1/completions", json=ASKED | more, timeout=60)


@pytest.mark.parametrize("how", ["--tensor-parallel", "--pipeline-parallel"])
def test_two_processes_answer_over_http_as_one_would_and_drain(tmp_path: Path, how: str) -> None:
    """A folder of few bits, an adapter beside it, vectors of texts; then the end."""
    plain, folder = model(vocab=BYTES.vocab), tmp_path / "low"
    save_huggingface(plain, plain.config, tmp_path / "wide", tokenizer=BYTES)
    source = open_checkpoint(tmp_path / "wide")
    quantize_checkpoint(source, folder, as_recipe("int4"), layout="panels")
    adapter = save(tmp_path / "adapter", **adapter_of(plain.config))
    llm = load(folder, dtype="float32")
    with served(folder, how, "2", "--adapter", f"tuned={adapter}") as (url, ranks):
        for name in ("low", "tuned"):
            whole = llm.generate("ab", max_tokens=12, temperature=0.0, ignore_eos=True)
            answer = complete(url, model=name)
            assert answer.status_code == 200, answer.text
            assert answer.json()["choices"][0]["text"] == whole.text
            llm.model = with_adapter(llm.model, adapter)
        body = {"input": "ab", "model": "low"}
        found = httpx2.post(f"{url}/v1/embeddings", json=body, timeout=60).json()
        expected = vector(load(folder, dtype="float32"), llm.tokenizer.encode("ab", bos=True))
        torch.testing.assert_close(torch.tensor(found["data"][0]["embedding"]), expected)
        for rank in ranks:  # as torchrun hands it on
            rank.send_signal(signal.SIGTERM)
        assert [rank.wait(60) for rank in ranks] == [0, 0]


@pytest.mark.parametrize("dies", [0, 1])
def test_a_rank_that_dies_ends_the_other_with_one_sentence(tmp_path: Path, dies: int) -> None:
    with served(save_folder(tmp_path / "tiny"), "--tensor-parallel", "2") as (_, ranks):
        psutil.Process(ranks[dies].pid).kill()
        other = ranks[1 - dies]
        _, said = other.communicate(timeout=60)
        assert other.returncode == 1
        lines = [line for line in said.splitlines() if line.startswith("puna: ")]
        assert len(lines) == 1
        assert f"rank {1 - dies}: rank {dies} is gone or does not answer" in lines[0]


@pytest.mark.parametrize("hangs", [0, 1])
def test_a_rank_that_hangs_ends_the_other_and_clients_are_told(tmp_path: Path, hangs: int) -> None:
    """It neither dies nor answers: its silence is noticed, and nobody waits for it for long."""
    folder = save_folder(tmp_path / "tiny")
    with served(folder, "--tensor-parallel", "2", module="tests.parallel.impatient") as (
        url,
        ranks,
    ):
        psutil.Process(ranks[hangs].pid).suspend()
        begin = time.monotonic()
        if hangs == 1:
            answer = complete(url)
            assert answer.status_code == 503, answer.text
        other = ranks[1 - hangs]
        _, said = other.communicate(timeout=60)
        assert time.monotonic() - begin < 2 * SILENCE_S + 5
        assert other.returncode == 1
        lines = [line for line in said.splitlines() if line.startswith("puna: ")]
        assert len(lines) == 1
        assert f"rank {1 - hangs}: rank {hangs} is gone or does not answer" in lines[0]
