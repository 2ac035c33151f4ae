"""`puna serve`: models over HTTP, with the API of OpenAI."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from puna.cli.options import Tools, Weights
from puna.errors import ExtraError, RequestError

if TYPE_CHECKING:
    from puna.cli.service import Service
    from puna.infer.engine import EngineConfig
    from puna.parallel.mesh import Mesh
    from puna.serve.replicas.front import Front
    from puna.serve.settings import Settings


@Parameter(name="*", group=Group.create_ordered("Clients"))
@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """Who may ask, and what is kept of it.

    Args:
        api_key_env: The variable of the environment that holds the keys, with commas between.
            Without it everybody who reaches the address may ask.
        cors: Origins of web pages that may call from a browser; * is every one.
        files: Where files of batches are kept; a folder that goes with the server without it.
        log_text: Write prompts and answers into the log.
        scripted_answers: For tests alone: requests may say what the model says.
    """

    api_key_env: str | None = None
    cors: list[str] | None = None
    files: Path | None = None
    log_text: Annotated[bool, Parameter(negative=())] = False
    scripted_answers: Annotated[bool, Parameter(negative=(), show=False)] = False


@Parameter(name="*", group=Group.create_ordered("Limits"))
@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is done at once.

    Args:
        max_queue: Requests that may wait; more are answered with 429.
        max_running: Answers that are written at the same time, for each model.
        cache_tokens: Tokens that the cache of each model holds; what memory allows without it.
        draft_tokens: Guess so many tokens ahead from what was said before; 0 guesses none.
        max_body_mib: The largest body of a request.
        max_choices: Answers to one request, at most: n, best_of.
        drain_s: Seconds that running answers have after the first signal.
    """

    max_queue: int = 256
    max_running: int = 64
    cache_tokens: int | None = None
    draft_tokens: int = 0
    max_body_mib: int = 16
    max_choices: int = 16
    drain_s: float = 30.0

    def engine(self, kv_cache: str | None) -> "EngineConfig":
        """Return them as those of an engine."""
        from puna.infer.engine import EngineConfig
        from puna.infer.runner import cache_dtype_of

        return EngineConfig(
            most_running=self.max_running, queue_limit=self.max_queue,
            cache_tokens=self.cache_tokens, draft_tokens=self.draft_tokens,
            tokens_a_step=max(512, self.max_running), cache_dtype=cache_dtype_of(kv_cache),
        )  # fmt: skip

    def settings(self, clients: Clients) -> "Settings":
        """Return them as those of a server for these clients."""
        from puna.serve.settings import MEBIBYTE, Settings

        return Settings(
            keys=read_keys(clients.api_key_env), origins=tuple(clients.cors or ()),
            max_queue=self.max_queue, max_body_bytes=self.max_body_mib * MEBIBYTE,
            max_choices=self.max_choices, drain_s=self.drain_s, files=clients.files,
            logs_text=clients.log_text, is_scripted=clients.scripted_answers,
        )  # fmt: skip


@Parameter(name="*", group=Group.create_ordered("Processes"))
@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """How many processes serve.

    Args:
        replicas: Servers behind this one address, each in a process of its own, under Ray Serve:
            here, or on the cluster that RAY_ADDRESS names. A dialog goes where it is known.
        tensor_parallel: Processes that share every layer, started with torchrun; best those of
            one machine.
        pipeline_parallel: Stages of the model, each with layers of its own; best one a machine.
    """

    replicas: int = 1
    tensor_parallel: int = 1
    pipeline_parallel: int = 1

    def mesh(self) -> "Mesh":
        """Return the place of this process among those that share the model."""
        from puna.parallel.mesh import Mesh

        return Mesh.of_process(tensor=self.tensor_parallel, pipeline=self.pipeline_parallel)


def serve(
    *models: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    adapter: list[str] | None = None,
    weights: Weights = Weights(),
    tools: Tools = Tools(),
    clients: Clients = Clients(),
    limits: Limits = Limits(),
    processes: Processes = Processes(),
) -> int:
    """Serve models over HTTP, with the API of OpenAI and a chat page at /.

    Several models may be named; NAME=MODEL says how clients call one, which is else the last part
    of its path. The first is the one that a request without a model gets. Tools run where a request
    asks for them in server_tools. The log goes to stderr, one JSON object a request. SIGTERM or
    Ctrl-C lets running answers be finished; a second one does not.

    For example:
      puna serve runs/cria
      puna serve llama-3.1-8b-instruct --quantize int4 --api-key-env MY_KEY --host 0.0.0.0
      puna serve llama-3.1-8b-instruct --replicas 4 --host 0.0.0.0
      torchrun --nproc-per-node 2 -m puna serve llama-3.1-8b-instruct --tensor-parallel 2
      puna serve small=runs/cria large=llama-3.1-8b-instruct --tools calc,code
      curl http://127.0.0.1:8000/v1/chat/completions -d '{"messages": [{"role": "user",
      "content": "Hi"}]}'

    Args:
        models: A run folder, a Hugging Face or Meta folder, a .gguf or a llama2.c .bin file, or
            NAME=MODEL.
        host: The address to listen on; 0.0.0.0 is every one of this machine.
        port: The port; 0 takes a free one.
        adapter: A LoRA adapter beside its model, NAME=FOLDER for the first model or
            NAME=MODEL:FOLDER for the one of that name; clients choose it by its own name.
    """
    check_extra()
    from puna.cli.service import Service

    service = Service(
        models=names_of(models), weights=weights, adapters=tuple(adapter or ()), tools=tools,
        settings=limits.settings(clients), config=limits.engine(weights.kv_cache),
        mesh=processes.mesh(),
    )  # fmt: skip
    if service.mesh.size > 1:
        from puna.cli.ranks import follow_leader, refuse_beside_ranks

        refuse_beside_ranks(service, replicas=processes.replicas)
        if not service.mesh.is_leader:
            return follow_leader(service)
    answer(service, host, port, replicas=processes.replicas)
    return 0


def answer(service: "Service", host: str, port: int, *, replicas: int) -> None:
    """Listen, load and answer until a signal ends it."""
    from puna.log import note
    from puna.serve.run import open_socket, run

    with open_socket(host, port) as door:
        where = f"http://{f'[{host}]' if ':' in host else host}:{door.getsockname()[1]}"
        if not service.settings.keys and host not in ("127.0.0.1", "localhost", "::1"):
            note("no key is needed here: everybody who reaches this address may ask")
        if service.settings.is_scripted:
            note("--scripted-answers: requests may say what the model says; for tests alone")
        opened = service.open() if replicas == 1 else in_front(service, replicas)
        with opened as application:
            run(application, door, lambda: print(f"serving at {where}", flush=True))


def check_extra() -> None:
    """Stop where the libraries of the server are not installed.

    Raises:
        ExtraError: they are not.
    """
    try:
        import puna.serve.run  # noqa: F401
    except ModuleNotFoundError as error:
        raise ExtraError(
            f"puna serve: {error.name} is not installed; it needs the extra 'serve'. "
            "Run: pip install 'puna[serve]'."
        ) from None


def names_of(models: Sequence[str]) -> dict[str, str]:
    """Return what is served, by the names that clients use.

    Raises:
        RequestError: nothing is named, or two have one name.
    """
    if not models:
        raise RequestError("serve: no model was given; at least one is expected.")
    named: dict[str, str] = {}
    for given in models:
        name, equals, path = given.partition("=")
        if not equals or Path(given).exists():
            name, path = Path(given).resolve().name, given
        if not name or name in named:
            raise RequestError(
                f"serve: {given}: the name {name!r} is empty or taken; every model needs its own. "
                "Write NAME=MODEL."
            )
        named[name] = path
    return named


def read_keys(variable: str | None) -> tuple[str, ...]:
    """Return the keys in a variable of the environment.

    Raises:
        RequestError: there is none in it.
    """
    if variable is None:
        return ()
    keys = tuple(key.strip() for key in os.environ.get(variable, "").split(",") if key.strip())
    if not keys:
        raise RequestError(
            f"--api-key-env: the environment has no keys in {variable}; one or more, with commas "
            "between, are expected. Export them first."
        )
    return keys


@contextlib.contextmanager
def in_front(service: "Service", replicas: int) -> "Iterator[Front]":
    """Yield the front of many servers, when all of them are ready.

    Raises:
        RequestError: fewer than one was asked for.
    """
    if replicas < 1:
        raise RequestError(f"--replicas: {replicas} was given; 1 or more is expected.")
    from puna.cli.service import log_to_stderr
    from puna.serve.replicas.front import Front
    from puna.serve.replicas.ray_fleet import open_fleet

    device = service.weights.device
    with open_fleet(service.open, replicas=replicas, device=device) as fleet, log_to_stderr():
        yield Front(fleet, service.settings, replicas)
