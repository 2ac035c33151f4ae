"""`puna serve` as one of several processes that hold parts of one model, started by torchrun.

Rank 0 listens and answers; the others follow it, and end with it. Where one dies, every other says
so in one sentence and ends: a server that lacks a part of its model has nothing to say.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from puna.device import pick_device
from puna.errors import ConfigError, RequestError, StateError
from puna.infer.ranks import LeadingPages, follow, own_pages
from puna.parallel.line import Follower, Leader
from puna.parallel.links import Links

if TYPE_CHECKING:
    from puna.cli.service import Service
    from puna.serve.served import Served

_TELL_S = 1.0  # that clients have to learn of a loss before the process ends


def refuse_beside_ranks(service: "Service", *, replicas: int) -> None:
    """Stop on what a model in parts does not have.

    Raises:
        RequestError: it was asked for.
    """
    kv_cache = service.weights.kv_cache
    given = {
        "--quantize": service.weights.quantize,
        "--kv-cache": kv_cache if kv_cache == "int8" else None,
        "--adapter": " ".join(service.adapters),
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
    """Load the share of rank 0 and put the whole model into service."""
    from puna.serve.served import Served

    ((name, path),) = service.models.items()
    links = Links(service.mesh, device_of_rank(service.weights.device))
    line = Leader(links, on_loss=_Ending(_TELL_S))
    try:
        llm = service.weights.load(path, links)
        pages = LeadingPages(own_pages(llm.model, links, service.config), links, line)
        yield {name: Served.of(name, llm, service.config, paged=pages)}
    finally:
        line.close()
        links.close()


def follow_leader(service: "Service") -> int:
    """Load the share of another rank and compute with it until rank 0 ends the work."""
    (path,) = service.models.values()
    links = Links(service.mesh, device_of_rank(service.weights.device))
    for ending in (signal.SIGINT, signal.SIGTERM):  # rank 0 drains, and says when it is over
        signal.signal(ending, signal.SIG_IGN)
    end = _Ending(_TELL_S)
    line = Follower(links, on_loss=end)
    llm = service.weights.load(path, links)
    try:
        follow(own_pages(llm.model, links, service.config), links, line)
    except StateError as error:
        end.now(str(error))
    links.close()
    return 0


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

    def __call__(self, sentence: str) -> None:
        """End soon."""
        timer = threading.Timer(self._after_s, self.now, [sentence])
        timer.daemon = True
        timer.start()

    def now(self, sentence: str) -> None:
        """Say it and end; whoever comes second waits for the end."""
        self._once.acquire()
        print(f"puna: {sentence}", file=sys.stderr, flush=True)
        os._exit(1)
