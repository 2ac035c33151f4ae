"""Replicas as a deployment of Ray Serve, on this machine or on the cluster that RAY_ADDRESS names.

Ray Serve starts the processes, places them where there are processors or GPUs enough, checks that
they are well and replaces those that died. Its own HTTP proxy stays off: the front is the address
(`puna.serve.replicas.front`), so that a body can decide who answers.
"""

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

from puna.errors import ExtraError, RequestError, StateError
from puna.serve.replicas.carried import Asked, Begun, ReplicaLost
from puna.serve.replicas.replica import Build, Replica

_ROUTER = "puna.serve.replicas.prefix_router:PrefixRouter"
_STORE_BYTES = 128 * 2**20  # of Ray's shared memory here: bodies of requests pass, no tensors
_UNBOUNDED = 1_000_000  # requests at one replica: its own queue refuses, with 429
_METRICS_S = 10.0


class RayFleet:
    """The replicas of one deployment."""

    def __init__(self, serve: Any, handle: Any, name: str) -> None:
        self._serve, self._handle, self._name = serve, handle, name
        self._answer = handle.options(method_name="answer", stream=True)

    async def ask(self, asked: Asked) -> AsyncGenerator[Begun | bytes, None]:
        """Let one replica answer; leaving early cancels the request there."""
        from ray.exceptions import NodeDiedError, RayActorError, WorkerCrashedError
        from ray.serve.exceptions import DeploymentUnavailableError

        died = (RayActorError, WorkerCrashedError, NodeDiedError, DeploymentUnavailableError)
        parts = self._answer.remote(asked)
        is_over = False
        try:
            async for part in parts:
                yield part
            is_over = True
        except died as error:
            raise ReplicaLost(str(error)) from None
        finally:
            if not is_over:
                parts.cancel()

    async def ask_all(self, asked: Asked) -> Sequence[tuple[Begun, bytes]]:
        """Let every replica that lives answer."""
        from ray.serve.exceptions import DeploymentUnavailableError

        sent = self._handle.broadcast("whole", asked)
        try:
            told = await sent.results_async(timeout_s=_METRICS_S, return_exceptions=True)
        except (TimeoutError, DeploymentUnavailableError):
            return []
        return [answer for answer in told if not isinstance(answer, BaseException)]

    async def count(self) -> int:
        """Return how many replicas can answer."""
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        try:
            status = await asyncio.to_thread(self._serve.status)
        except (RayError, RayServeException):  # whoever keeps count is being replaced, too
            return 0
        app = status.applications.get(self._name)
        states = [part.replica_states for part in app.deployments.values()] if app else []
        return sum(int(state.get("RUNNING", 0)) for state in states)

    def close(self) -> None:
        """End the replicas; others on the same cluster stay."""
        self._serve.delete(self._name)


@contextlib.contextmanager
def open_fleet(build: Build, *, replicas: int, device: str) -> Iterator[RayFleet]:
    """Start replicas and yield them when all can answer.

    Raises:
        ExtraError: Ray is not installed.
        RequestError: there are fewer GPUs than replicas.
        StateError: a replica could not be started.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported
    # Ray runs workers at nice 15, as guests of a machine; these are the service itself, and beside
    # anything that computes they would not even start.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
        from ray import serve
        from ray.serve.config import RequestRouterConfig
    except ModuleNotFoundError as error:
        raise ExtraError(
            f"puna serve --replicas: {error.name} is not installed; it needs the extra 'cluster'. "
            "Run: pip install 'puna[cluster]'."
        ) from None
    own = {} if os.environ.get("RAY_ADDRESS") else {"object_store_memory": _STORE_BYTES}
    with _quiet():
        ray.init(
            namespace="puna", include_dashboard=False, log_to_driver=False,
            logging_level=logging.WARNING, **own,
        )  # fmt: skip
        try:
            options = needs(
                [node["Resources"] for node in ray.nodes() if node["Alive"]], replicas, device
            )
            serve.start(proxy_location="Disabled")
            name = f"puna-{secrets.token_hex(4)}"
            deployment = serve.deployment(
                Replica, name="replica", num_replicas=replicas, ray_actor_options=options,
                max_ongoing_requests=_UNBOUNDED, max_constructor_retry_count=1,
                health_check_period_s=2, graceful_shutdown_timeout_s=5,
                graceful_shutdown_wait_loop_s=0.1,
                request_router_config=RequestRouterConfig(request_router_class=_ROUTER),
            )  # fmt: skip
            try:
                handle = serve.run(deployment.bind(build), name=name, route_prefix=None)
            except RuntimeError as error:
                raise failed(str(error)) from None
            yield RayFleet(serve, handle, name)
        finally:
            if own:
                serve.shutdown()
            ray.shutdown()


def needs(nodes: Sequence[dict[str, float]], replicas: int, device: str) -> dict[str, float]:
    """Return what one replica needs of a node: a GPU where there are any, and its processors.

    Args:
        nodes: what each machine of the cluster has.
    Raises:
        RequestError: there are fewer GPUs than replicas.
    """
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    cpus = sum(node.get("CPU", 0) for node in nodes)
    has_gpu = device.startswith("cuda") or (device == "auto" and gpus > 0)
    if has_gpu and gpus < replicas:
        raise RequestError(
            f"--replicas: {replicas} were asked for, and the cluster has {gpus} GPUs; one each is "
            "expected. Ask for fewer, or add --device cpu."
        )
    share = min(cpus / replicas, max((node.get("CPU", 0) for node in nodes), default=0))
    # Ray sets the threads of a replica to its processors, so they do not starve each other.
    return {"num_cpus": float(int(share)) if share >= 1 else share} | (
        {"num_gpus": 1} if has_gpu else {}
    )


def failed(text: str) -> StateError:
    """Return Ray's story of a replica that did not start as the sentence at its end."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = next((line for line in reversed(lines) if "Error: " in line), lines[-1])
    told = told.partition("Error: ")[2] or told
    return StateError(
        f"puna serve --replicas: no replica could be started ({told}). Try it without "
        "--replicas to see more."
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray's own notes off stderr; its warnings stay."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.serve")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
