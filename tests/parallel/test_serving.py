"""`torchrun -m puna serve`: one model in two processes, over HTTP, to its end and to its death."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from puna.llm import load
from tests.llm.folders import save_folder

ROOT = Path(__file__).parents[2]
ASKED = {"prompt": "ab", "max_tokens": 12, "temperature": 0, "ignore_eos": True}


@contextlib.contextmanager
def served(folder: Path, *options: str) -> Iterator[tuple[str, list[subprocess.Popen[str]]]]:
    """Start two ranks as torchrun does; yield the address and the processes."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = str(door.getsockname()[1])
    command = [sys.executable, "-m", "puna", "serve", str(folder), "--port", "0", *options]
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
        assert ranks[0].stdout is not None
        line = ranks[0].stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, line
        yield found[0], ranks
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()


@pytest.mark.parametrize("how", ["--tensor-parallel", "--pipeline-parallel"])
def test_two_processes_answer_over_http_as_one_would_and_drain(tmp_path: Path, how: str) -> None:
    folder = save_folder(tmp_path / "tiny")
    whole = load(folder, dtype="float32").generate(
        "ab", max_tokens=12, temperature=0.0, ignore_eos=True
    )
    with served(folder, how, "2") as (url, ranks):
        answer = httpx2.post(f"{url}/v1/completions", json=ASKED, timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["text"] == whole.text
        vectors = httpx2.post(f"{url}/v1/embeddings", json={"input": "ab"}, timeout=60)
        assert vectors.status_code == 400 and "Load the model whole" in vectors.text
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
