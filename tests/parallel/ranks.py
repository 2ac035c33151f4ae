"""Small meshes for tests: processes that divide a tiny random model and speak by gloo."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from puna.checkpoint.shard import fill_share
from puna.infer.engine import Engine, EngineConfig
from puna.infer.ranks import LeadingPages, follow, own_pages
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


Lead = Callable[[Engine, Leader], Any]


def on_mesh(
    tensor: int, pipeline: int, lead: Lead, *, config: EngineConfig | None = None, **shape: Any
) -> tuple[Any, list[int]]:
    """Divide `odd_model(**shape)`; return what `lead` returns on rank 0, and the weights of each.

    `lead` gets the engine, and must be a function that stands in a module.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    answers = context.SimpleQueue()
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    given = (tensor, pipeline, port, lead, config or small(), shape, answers)
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
    return found[0][1], [found[rank][0] for rank in range(len(ranks))]


def _rank(
    rank: int,
    tensor: int,
    pipeline: int,
    port: int,
    lead: Lead,
    config: EngineConfig,
    shape: dict[str, Any],
    answers: Any,
) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    result, weights = None, 0
    try:
        links = Links(Mesh(tensor=tensor, pipeline=pipeline, rank=rank), CPU)
        whole = odd_model(**shape)
        model = fill_share(whole.config, whole.state_dict(), links, dtype=torch.float32)
        weights = sum(weight.numel() for weight in model.parameters())
        own = own_pages(model, links, config)
        if rank:
            follow(own, links, Follower(links))
        else:
            line = Leader(links)
            engine = Engine(model, None, config, paged=LeadingPages(own, links, line))
            result = lead(engine, line)
            line.close()
        links.close()
    finally:
        with suppress(OSError):
            answers.put((rank, (weights, result)))
