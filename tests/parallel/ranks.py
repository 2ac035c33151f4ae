"""Small meshes for tests: processes that divide a tiny random model and speak by gloo."""

import copy
import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from puna.checkpoint.shard import fill_share
from puna.infer.engine import Engine, EngineConfig
from puna.infer.ranks import Conductor, LeadingPages, follow, own_part
from puna.model.config import ModelConfig
from puna.model.init import initialise
from puna.model.llama import Llama
from puna.parallel.line import Follower, Leader
from puna.parallel.links import Links
from puna.parallel.mesh import Mesh

ENDS_S = 60.0  # after which a process that still runs is a failure
CPU = torch.device("cpu")


def odd_model(*, tied: bool = False, heads: int = 8, kv_heads: int = 4, layers: int = 3) -> Llama:
    """Return a random model of which nothing but the heads can be halved."""
    config = ModelConfig(
        width=8 * heads, layers=layers, heads=heads, kv_heads=kv_heads, mlp_width=85, vocab=97,
        context=128, rope_theta=10_000.0, tied=tied,
    )  # fmt: skip
    model = Llama(config)
    initialise(model, seed=3, std=0.3)
    return model.eval().requires_grad_(False)


def small(**limits: int) -> EngineConfig:
    chosen = {"page_tokens": 8, "most_running": 6, "tokens_a_step": 32, "cache_tokens": 512}
    return EngineConfig(**(chosen | limits))  # type: ignore[arg-type]


Lead = Callable[[Engine, Engine], Any]
Span = tuple[float, float]  # seconds of one clock for all processes of a machine


@dataclass(kw_only=True)
class Told:
    """What a rank says at its end."""

    weights: int = 0
    busy: list[Span] = field(default_factory=list)  # when a slow rank computed
    result: Any = None


def on_mesh(
    tensor: int,
    pipeline: int,
    lead: Lead,
    *,
    config: EngineConfig | None = None,
    slow_s: float = 0.0,
    **shape: Any,
) -> list[Told]:
    """Divide `odd_model(**shape)`; return what the ranks tell, rank 0 what `lead` returns.

    `lead` gets two engines of the same weights, and must be a function that stands in a module.
    With `slow_s` every stage takes so long for each row that it reads.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    answers = context.SimpleQueue()
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    given = (tensor, pipeline, port, lead, config or small(), slow_s, shape, answers)
    ranks = [
        context.Process(target=_rank, args=(rank, *given), daemon=True)
        for rank in range(tensor * pipeline)
    ]
    for rank in ranks:
        rank.start()
    try:
        found = dict(answers.get() for _ in range(tensor * pipeline))
        for rank in ranks:
            rank.join(ENDS_S)
        assert [rank.exitcode for rank in ranks] == [0] * len(ranks)
    finally:
        for rank in ranks:
            rank.kill()
    return [found[rank] for rank in range(len(ranks))]


def _rank(
    rank: int,
    tensor: int,
    pipeline: int,
    port: int,
    lead: Lead,
    config: EngineConfig,
    slow_s: float,
    shape: dict[str, Any],
    answers: Any,
) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    told = Told()
    try:
        links = Links(Mesh(tensor=tensor, pipeline=pipeline, rank=rank), CPU)
        whole = odd_model(**shape)
        model = fill_share(whole.config, whole.state_dict(), links, dtype=torch.float32)
        told.weights = sum(weight.numel() for weight in model.parameters())
        if slow_s:
            _slow_down(model, slow_s, told.busy)
        twin = copy.copy(model)
        parts = [own_part(one, links, config) for one in (model, twin)]
        if rank:
            follow(parts, links, Follower(links))
        else:
            line = Leader(links)
            conductor = Conductor(links, line)
            engine, other = (
                Engine(own.model, None, config, paged=LeadingPages(own, conductor, number))
                for number, own in enumerate(parts)
            )
            told.result = lead(engine, other)
            line.close()
        links.close()
    finally:
        with suppress(OSError):
            answers.put((rank, told))


def _slow_down(model: Llama, seconds: float, busy: list[Span]) -> None:
    """Let the first block of a stage, which has its states by then, take so long for each row."""

    def wait(_: nn.Module, given: tuple[Any, ...]) -> None:
        begin = time.monotonic()
        time.sleep(seconds * given[0].shape[0])
        busy.append((begin, time.monotonic()))

    model.blocks[0].register_forward_pre_hook(wait)
