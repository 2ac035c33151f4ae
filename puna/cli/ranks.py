"""`puna serve` as one of several processes that hold parts of one model, started by torchrun.

Rank 0 listens and answers; the others follow it, and end with it. Where one dies, every other says
so in one sentence and ends: a server that lacks a part of its model has nothing to say.
"""

import contextlib
import copy
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from puna.device import pick_device
from puna.errors import ConfigError, RequestError, StateError
from puna.infer.adapters import with_adapter
from puna.infer.ranks import Conductor, LeadingPages, follow, own_part
from puna.parallel.apply import Share
from puna.parallel.line import Follower, Leader
from puna.parallel.links import Links

if TYPE_CHECKING:
    from puna.cli.service import Service
    from puna.llm import LLM
    from puna.serve.served import Served

_TELL_S = 1.0  # that clients have to learn of a loss before the process ends


def refuse_beside_ranks(service: "Service", *, replicas: int) -> None:
    """Stop on what a model in parts does not have.

    Raises:
        RequestError: it was asked for.
    """
    kv_cache = service.weights.kv_cache
    given = {
        "--kv-cache": kv_cache if kv_cache in ("int8", "fp8") else None,
        "--replicas": replicas if replicas != 1 else None,
        "more models": ", ".join(list(service.models)[1:]),
    }
    for name, value in given.items():
        if value:
            raise RequestError(
                f"{name}: {value!r} was given; a model that is divided over processes is served "
                "without. Leave it out, or serve the model whole."
            )


@contextlib.contextmanager
def leading(service: "Service") -> "Iterator[dict[str, Served]]":
    """Load the share of rank 0 and put the whole model into service, and its adapters."""
    from puna.serve.served import Served

    links = Links(service.mesh, device_of_rank(service.weights.device))
    ending = _Ending(_TELL_S)
    line = Leader(links, on_loss=ending)
    try:
        served: dict[str, Served] = {}
        conductor = Conductor(links, line)
        for number, (name, llm) in enumerate(_load(service, links).items()):
            assert isinstance(llm.model, Share)
            own = own_part(llm.model, links, service.config)
            pages = LeadingPages(own, conductor, number)
            root = next(iter(served), "")
            served[name] = Served.of(name, llm, service.config, root=root, paged=pages)
        ending.served = tuple(served.values())
        yield served
    finally:
        if line.lost is not None:
            ending.now(str(line.lost))
        line.close()
        links.close()


def follow_leader(service: "Service") -> int:
    """Load the share of another rank and compute with it until rank 0 ends the work."""
    links = Links(service.mesh, device_of_rank(service.weights.device))
    for signal_ in (signal.SIGINT, signal.SIGTERM):  # rank 0 drains, and says when it is over
        signal.signal(signal_, signal.SIG_IGN)
    end = _Ending(_TELL_S)
    line = Follower(links, on_loss=end)
    parts = []
    for llm in _load(service, links).values():
        assert isinstance(llm.model, Share)
        parts.append(own_part(llm.model, links, service.config))
    try:
        follow(parts, links, line)
    except StateError as error:
        end.now(str(error))
    links.close()
    return 0


def _load(service: "Service", links: Links) -> "dict[str, LLM]":
    """Load this rank's share of the model, and of each adapter; in one order on every rank."""
    from puna.cli.service import read_adapters

    ((name, path),) = service.models.items()
    models = {name: service.weights.load(path, links)}
    for adapter, base, folder in read_adapters(service.adapters, [name]):
        llm = copy.copy(models[base])
        llm.model, llm.name = with_adapter(llm.model, folder), adapter
        models[adapter] = llm
    return models


def device_of_rank(name: str) -> torch.device:
    """Return the device of this process: of the GPUs of its machine, the one with its number.

    Raises:
        ConfigError: the machine has fewer GPUs than processes.
    """
    device = pick_device(name)
    if device.type != "cuda":
        return device
    number, seen = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= seen:
        raise ConfigError(
            f"--device {name}: process {number} of this machine was started and it has {seen} "
            "GPUs; one for each process is expected. Start fewer, or choose --device cpu."
        )
    return torch.device("cuda", number)


class _Ending:
    """The end of this process after a loss: one sentence, also where a thread cannot be woken."""

    def __init__(self, after_s: float) -> None:
        self._after_s, self._once = after_s, threading.Lock()
        self.served: Sequence[Served] = ()  # whose clients are told first

    def __call__(self, sentence: str) -> None:
        """End soon; until then clients are answered with 503, those who wait and those who come."""
        timer = threading.Timer(self._after_s, self.now, [sentence])
        timer.daemon = True
        timer.start()
        for one in self.served:
            one.driver.abandon()
        if self.served and callable(signal.getsignal(signal.SIGTERM)):
            os.kill(os.getpid(), signal.SIGTERM)  # the server drains

    def now(self, sentence: str) -> None:
        """Say it and end; whoever comes second waits for the end."""
        self._once.acquire()
        print(f"puna: {sentence}", file=sys.stderr, flush=True)
        os._exit(1)
