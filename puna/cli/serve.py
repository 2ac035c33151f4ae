"""`puna serve`: models over HTTP, with the API of OpenAI."""

import contextlib
import dataclasses
import functools
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from puna.errors import ExtraError, RequestError

if TYPE_CHECKING:
    from puna.infer.engine import EngineConfig
    from puna.parallel.mesh import Mesh
    from puna.serve.app import Server
    from puna.serve.replicas.front import Front
    from puna.serve.replicas.replica import Build
    from puna.serve.served import Served
    from puna.serve.settings import Settings
    from puna.tools.tool import Tool


def serve(
    *models: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    quantize: str | None = None,
    adapter: list[str] | None = None,
    api_key_env: str | None = None,
    max_queue: int = 256,
    max_running: int = 64,
    cache_tokens: int | None = None,
    kv_cache: Literal["f32", "bf16", "int8"] | None = None,
    draft_tokens: int = 0,
    replicas: int = 1,
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    max_body_mib: int = 16,
    max_choices: int = 16,
    drain_s: float = 30.0,
    cors: list[str] | None = None,
    tools: list[str] | None = None,
    folder: Path | None = None,
    unprotected: Annotated[bool, Parameter(negative=())] = False,
    files: Path | None = None,
    log_text: Annotated[bool, Parameter(negative=())] = False,
    scripted_answers: Annotated[bool, Parameter(negative=(), show=False)] = False,
    tokenizer: Path | None = None,
    device: str = "auto",
    dtype: str | None = None,
) -> int:
    """Serve models over HTTP, with the API of OpenAI and a chat page at /.

    Several models may be named; NAME=MODEL says how clients call one, which is else the last part
    of its path. The first is the one that a request without a model gets. The log goes to stderr,
    one JSON object a request. SIGTERM or Ctrl-C lets running answers be finished; a second one
    does not.

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
        quantize: Round the weights on the way: int8, int4 or fp8.
        adapter: A LoRA adapter beside its model, NAME=FOLDER for the first model or
            NAME=MODEL:FOLDER for the one of that name; clients choose it by its own name.
        api_key_env: The variable of the environment that holds the keys, with commas between.
            Without it everybody who reaches the address may ask.
        max_queue: Requests that may wait; more are answered with 429.
        max_running: Answers that are written at the same time, for each model.
        cache_tokens: Tokens that the cache of each model holds; what memory allows without it.
        kv_cache: What keys and values are kept in; int8 holds twice the tokens of bf16.
        draft_tokens: Guess so many tokens ahead from what was said before; 0 guesses none.
        replicas: Servers behind this one address, each in a process of its own, under Ray Serve:
            here, or on the cluster that RAY_ADDRESS names. A dialog goes where it is known.
        tensor_parallel: Processes that share every layer, started with torchrun; best those of
            one machine.
        pipeline_parallel: Stages of the model, each with layers of its own; best one a machine.
        max_body_mib: The largest body of a request.
        max_choices: Answers to one request, at most: n, best_of.
        drain_s: Seconds that running answers have after the first signal.
        cors: Origins of web pages that may call from a browser; * is every one.
        tools: What the server itself may run when a request asks for it in server_tools: calc,
            code[:FOLDER], search[:FOLDER], wolfram, mcp:COMMAND or mcp:URL, with commas between.
        folder: Where the code of the model reads and writes.
        unprotected: Run the code of the model without walls where this machine lets none be built.
        files: Where files of batches are kept; a folder that goes with the server without it.
        log_text: Write prompts and answers into the log.
        scripted_answers: For tests alone: requests may say what the model says.
        tokenizer: The tokenizer's file, for weights that come without one.
        device: auto, cpu or cuda.
        dtype: Of the weights in memory; chosen for the device.
    """
    try:
        from puna.serve.run import open_socket, run
    except ModuleNotFoundError as error:
        raise ExtraError(
            f"puna serve: {error.name} is not installed; it needs the extra 'serve'. "
            "Run: pip install 'puna[serve]'."
        ) from None
    from puna.infer.engine import EngineConfig
    from puna.infer.runner import cache_dtype_of
    from puna.log import note
    from puna.parallel.mesh import Mesh
    from puna.serve.settings import MEBIBYTE, Settings

    named = names_of(models)
    keys = read_keys(api_key_env)
    settings = Settings(
        keys=keys, origins=tuple(cors or ()), max_queue=max_queue,
        max_body_bytes=max_body_mib * MEBIBYTE, max_choices=max_choices, drain_s=drain_s,
        files=files, logs_text=log_text, is_scripted=scripted_answers,
    )  # fmt: skip
    config = EngineConfig(
        most_running=max_running, queue_limit=max_queue, cache_tokens=cache_tokens,
        draft_tokens=draft_tokens, tokens_a_step=max(512, max_running),
        cache_dtype=cache_dtype_of(kv_cache),
    )  # fmt: skip
    build = functools.partial(
        built, named, config, settings, quantize=quantize, tokenizer=tokenizer, device=device,
        dtype=dtype, adapters=tuple(adapter or ()), tools=tuple(tools or ()), folder=folder,
        unprotected=unprotected,
    )  # fmt: skip
    mesh = Mesh.of_process(tensor=tensor_parallel, pipeline=pipeline_parallel)
    if mesh.size > 1:
        from puna.cli.ranks import follow_leader, refuse_beside_ranks

        refuse_beside_ranks(
            quantize=quantize,
            adapter=adapter,
            replicas=replicas > 1,
            models=list(named)[1:],
            kv_cache=kv_cache if kv_cache == "int8" else None,
        )
        if not mesh.is_leader:
            (path,) = named.values()
            return follow_leader(
                path, mesh, config, tokenizer=tokenizer, device=device, dtype=dtype
            )
        build = functools.partial(build, mesh=mesh)
    with open_socket(host, port) as door:
        where = f"http://{f'[{host}]' if ':' in host else host}:{door.getsockname()[1]}"
        if not keys and host not in ("127.0.0.1", "localhost", "::1"):
            note("no key is needed here: everybody who reaches this address may ask")
        if scripted_answers:
            note("--scripted-answers: requests may say what the model says; for tests alone")
        with (
            build() if replicas == 1 else in_front(build, settings, replicas, device)
        ) as application:
            run(application, door, lambda: print(f"serving at {where}", flush=True))
    return 0


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
def in_front(build: "Build", settings: "Settings", replicas: int, device: str) -> "Iterator[Front]":
    """Yield the front of many servers, when all of them are ready.

    Raises:
        RequestError: fewer than one was asked for.
    """
    if replicas < 1:
        raise RequestError(f"--replicas: {replicas} was given; 1 or more is expected.")
    from puna.serve.replicas.front import Front
    from puna.serve.replicas.ray_fleet import open_fleet

    with open_fleet(build, replicas=replicas, device=device) as fleet, log_to_stderr():
        yield Front(fleet, settings, replicas)


@contextlib.contextmanager
def built(
    named: dict[str, str],
    config: "EngineConfig",
    settings: "Settings",
    *,
    quantize: str | None,
    tokenizer: Path | None,
    device: str,
    dtype: str | None,
    adapters: Sequence[str],
    tools: Sequence[str],
    folder: Path | None,
    unprotected: bool,
    mesh: "Mesh | None" = None,
) -> "Iterator[Server]":
    """Yield the server: here, in the process of a replica, or on rank 0 of a mesh."""
    from puna.serve.app import Server

    with contextlib.ExitStack() as held:
        if mesh is None:
            served = load_all(
                named, config, quantize=quantize, tokenizer=tokenizer, device=device, dtype=dtype
            )
            add_adapters(served, adapters, config)
        else:
            from puna.cli.ranks import leading

            ((name, path),) = named.items()
            served = held.enter_context(
                leading(name, path, mesh, config, tokenizer=tokenizer, device=device, dtype=dtype)
            )
        offered = held.enter_context(opened(tools, served, folder=folder, unprotected=unprotected))
        held.enter_context(log_to_stderr())
        yield Server(served, dataclasses.replace(settings, tools=tuple(offered)))


def load_all(
    named: dict[str, str],
    config: "EngineConfig",
    *,
    quantize: str | None,
    tokenizer: Path | None,
    device: str,
    dtype: str | None,
) -> "dict[str, Served]":
    """Load every model and put it into service."""
    from puna.llm import load
    from puna.serve.served import Served

    served: dict[str, Served] = {}
    for name, path in named.items():
        llm = load(path, quantize=quantize, device=device, dtype=dtype, tokenizer=tokenizer)
        served[name] = Served.of(name, llm, config)
    return served


def add_adapters(served: "dict[str, Served]", given: Sequence[str], config: "EngineConfig") -> None:
    """Put adapters into service: models of their own, which share their base's weights.

    Raises:
        RequestError: an adapter has no name of its own, or no base.
    """
    import copy

    from puna.infer.adapters import with_adapter
    from puna.serve.served import Served

    for text in given:
        name, _, where = text.partition("=")
        base, colon, folder = where.partition(":")
        if not colon or base not in served:
            base, folder = next(iter(served)), where
        if not name or not folder or name in served:
            raise RequestError(
                f"--adapter: {text!r} was given; NAME=FOLDER or NAME=MODEL:FOLDER with a name that "
                "no model has is expected."
            )
        llm = copy.copy(served[base].llm)
        llm.model, llm.name = with_adapter(llm.model, folder), name
        served[name] = Served.of(name, llm, config, root=served[base].name)


@contextlib.contextmanager
def opened(
    names: Sequence[str],
    served: "dict[str, Served]",
    *,
    folder: Path | None,
    unprotected: bool,
) -> "Iterator[Sequence[Tool]]":
    """Open the tools that the operator allows; without a word, none."""
    from puna.tools.registry import open_tools, read_names

    raised_with = [tool.name for model in served.values() for tool in model.llm.style.tools]
    given = read_names(names)
    with open_tools(
        given, folder=folder, unprotected=unprotected, raised_with=raised_with
    ) as offered:
        yield offered


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
