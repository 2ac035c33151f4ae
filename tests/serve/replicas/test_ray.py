"""Two replicas under a real Ray, started as an operator starts them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from puna.cli.main import main
from puna.errors import RequestError, StateError
from tests.llm.folders import save_run

CHAT = "/v1/chat/completions"
SOON_S = 90  # a few seconds each, unless the machine is busy


def test_without_ray_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["serve", str(tmp_path), "--replicas", "2", "--port", "0"]) == 1
    told = capsys.readouterr().err
    assert "needs the extra 'cluster'" in told
    assert told.count("\n") == 1
    assert main(["serve", str(tmp_path), "--replicas", "0", "--port", "0"]) == 1
    assert "1 or more is expected" in capsys.readouterr().err


def test_each_replica_gets_its_share_of_the_machine() -> None:
    from puna.serve.replicas.ray_fleet import needs

    assert needs([{"CPU": 16}], 3, "auto") == {"num_cpus": 5.0}
    assert needs([{"CPU": 2}], 4, "cpu") == {"num_cpus": 0.5}
    nodes = [{"CPU": 8, "GPU": 1}, {"CPU": 8, "GPU": 1}]
    assert needs(nodes, 2, "auto") == {"num_cpus": 8.0, "num_gpus": 1}
    assert needs(nodes, 1, "auto") == {"num_cpus": 8.0, "num_gpus": 1}  # no more than a node has
    assert needs(nodes, 4, "cpu") == {"num_cpus": 4.0}
    with pytest.raises(RequestError, match="has 2 GPUs"):
        needs(nodes, 3, "auto")


def test_a_replica_that_cannot_start_is_told_in_a_sentence() -> None:
    from puna.serve.replicas.ray_fleet import failed

    story = "Deploying app failed:\nTraceback\n  puna.errors.NotFoundError: x: no such folder.\n"
    error = failed(story)
    assert isinstance(error, StateError)
    assert "(x: no such folder.)" in str(error)


class Service:
    """A `puna serve` in a process of its own."""

    def __init__(self, model: Path) -> None:
        command = [sys.executable, "-m", "puna", "serve", f"tiny={model}", "--port", "0",
                   "--replicas", "2", "--device", "cpu", "--cache-tokens", "8192"]  # fmt: skip
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        env.pop("RAY_ADDRESS", None)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
        self.client = httpx2.Client(timeout=SOON_S)

    def wait(self) -> None:
        """Return when it says where it serves."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "serving at " in line, line
        self.client.base_url = line.split()[-1]

    def chat(self, *texts: str) -> dict[str, Any]:
        roles = ("user", "assistant")
        messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
        answer = self.client.post(CHAT, json={"messages": messages, "max_tokens": 4})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def figures(self, name: str) -> dict[str, float]:
        """Return a family by replica."""
        text = self.client.get("/metrics").text
        found = [f for f in text_string_to_metric_families(text) if f.name == name]
        samples = [s for f in found for s in f.samples if not s.name.endswith("_created")]
        return {s.labels.get("replica", ""): s.value for s in samples}

    def replicas(self) -> list[psutil.Process]:
        below = psutil.Process(self.process.pid).children(recursive=True)
        return [p for p in below if "ServeReplica" in " ".join(p.cmdline())]

    def close(self) -> None:
        """Take away whatever is left; every process here is the service's own."""
        self.client.close()
        own = [psutil.Process(self.process.pid)] if self.process.poll() is None else []
        for process in [below for one in own for below in one.children(recursive=True)] + own:
            process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    pytest.importorskip("ray.serve", reason="Ray is not installed (the extra 'cluster')")
    save_run(tmp_path / "run")
    service = Service(tmp_path / "run")
    try:
        service.wait()
        yield service
    finally:
        service.close()


def soon(is_so: Callable[[], bool], *, within_s: float = SOON_S) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if is_so():
            return True
        time.sleep(0.2)
    return False


@pytest.mark.timeout(600)
def test_replicas_share_an_address_and_one_that_dies_is_replaced(service: Service) -> None:
    assert service.client.get("/health").json()["replicas"] == {"ready": 2, "wanted": 2}

    # Two dialogs, two replicas, and each dialog stays with its own.
    text = "A question that is long enough to have keys of its own, and short enough for the model."
    for first in ("one " + text, "two " + text):
        said = service.chat(first)["choices"][0]["message"]["content"]
        usage = service.chat(first, said, "Go on.")["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] > 16
    assert list(service.figures("puna_routed").values()) == [2, 2]

    # A client that leaves a stream gives its pages back, in the other process.
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 200, "stream": True,
            "ignore_eos": True}  # fmt: skip
    with service.client.stream("POST", CHAT, json=body) as answer:
        parts = answer.iter_bytes()
        assert next(parts).startswith(b"data: ")
    assert soon(lambda: sum(service.figures("puna_engine_running").values()) == 0)

    # One is killed: requests go on, and soon there are two again.
    service.replicas()[0].kill()
    for number in range(6):
        service.chat(f"{number} " + text)
    assert soon(lambda: len(service.figures("puna_engine_pages")) == 2, within_s=2 * SOON_S)
    assert service.client.get("/health").status_code == 200

    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(timeout=SOON_S) == 0
