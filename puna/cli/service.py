"""What one server is made from, and the server that it makes: models, adapters, tools, a log.

A service can be pickled: `puna serve` opens it in its own process, hands it to replicas, or opens
rank 0's share of it (`puna.cli.ranks`).
"""

import contextlib
import copy
import dataclasses
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from puna.cli.options import Tools, Weights
from puna.errors import RequestError
from puna.infer.adapters import with_adapter
from puna.infer.engine import EngineConfig
from puna.parallel.mesh import Mesh
from puna.serve.app import Server
from puna.serve.served import Served
from puna.serve.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Everything that decides one server."""

    models: Mapping[str, str]  # paths, by the names that clients use
    weights: Weights
    adapters: tuple[str, ...]  # NAME=FOLDER or NAME=MODEL:FOLDER
    tools: Tools
    config: EngineConfig  # of each model's engine
    settings: Settings
    mesh: Mesh  # the processes that share the model

    @contextlib.contextmanager
    def open(self) -> Iterator[Server]:
        """Yield the server; models, tools and the log end with the block."""
        with contextlib.ExitStack() as held:
            if self.mesh.size > 1:
                from puna.cli.ranks import leading

                served = held.enter_context(leading(self))
            else:
                served = self.load()
            own = [tool for model in served.values() for tool in model.llm.style.tools]
            tools = held.enter_context(self.tools.open(own))
            held.enter_context(log_to_stderr())
            yield Server(served, dataclasses.replace(self.settings, tools=tuple(tools)))

    def load(self) -> dict[str, Served]:
        """Load every model whole, and put them and their adapters into service."""
        served = {
            name: Served.of(name, self.weights.load(path, as_module=True), self.config)
            for name, path in self.models.items()
        }
        add_adapters(served, self.adapters, self.config)
        return served


def add_adapters(served: dict[str, Served], given: Sequence[str], config: EngineConfig) -> None:
    """Put adapters into service: models of their own, which share their base's weights.

    Raises:
        RequestError: an adapter has no name of its own, or no base.
    """
    for name, base, folder in read_adapters(given, served):
        llm = copy.copy(served[base].llm)
        llm.model, llm.name = with_adapter(llm.model, folder), name
        served[name] = Served.of(name, llm, config, root=served[base].name)


def read_adapters(given: Sequence[str], models: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Yield name, base and folder of each adapter; the base is the first model where none is named.

    Raises:
        RequestError: an adapter has no name of its own, or no base.
    """
    names = list(models)
    first = names[0]
    for text in given:
        name, _, where = text.partition("=")
        base, colon, folder = where.partition(":")
        if not colon or base not in names:
            base, folder = first, where
        if not name or not folder or name in names:
            raise RequestError(
                f"--adapter: {text!r} was given; NAME=FOLDER or NAME=MODEL:FOLDER with a name that "
                "no model has is expected."
            )
        names.append(name)
        yield name, base, folder


@contextlib.contextmanager
def log_to_stderr() -> Iterator[None]:
    """Write the log of the server, one line a request, while the block runs."""
    logger = logging.getLogger("puna")
    handler = logging.StreamHandler(sys.stderr)
    # Notes are shown by themselves; here are requests, and whatever went wrong.
    handler.addFilter(lambda r: r.name == "puna.serve" or r.levelno >= logging.WARNING)
    handler.setFormatter(logging.Formatter("%(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
