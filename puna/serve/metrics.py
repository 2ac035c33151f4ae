"""`/metrics`: what an operator watches, in the text format of Prometheus.

Counters are touched once a step of the engine and not once a token's text; what the engine itself
counts (places, pages, queues) is read when somebody asks.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from puna.serve.call import Call

# Seconds: from one token of a small model to a long answer of a large one.
_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_LONG = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "puna_requests", "Requests that were answered.", ("path", "status"),
            registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "puna_request_seconds", "From the request to the end of its answer.", ("path",),
            buckets=_LONG, registry=self.registry,
        )  # fmt: skip
        self.prompt_tokens = self._counter("puna_prompt_tokens", "Tokens of prompts.", "model")
        self.written_tokens = self._counter("puna_written_tokens", "Tokens of answers.", "model")
        self.cached_tokens = self._counter(
            "puna_cached_tokens", "Tokens of prompts that were found in the cache.", "model"
        )
        self.first_token = Histogram(
            "puna_first_token_seconds", "From submission to the first token.", ("model",),
            buckets=_LONG, registry=self.registry,
        )  # fmt: skip
        self.between_tokens = Histogram(
            "puna_between_tokens_seconds", "From one token to the next.", ("model",),
            buckets=_SHORT, registry=self.registry,
        )  # fmt: skip
        self.refused = self._counter("puna_refused", "Requests that found the queue full.")
        self.left = self._counter("puna_clients_left", "Clients that left before their answer.")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def watch(self, figures: Callable[[], Mapping[str, Mapping[str, float]]]) -> None:
        """Ask engines for their figures, by model, whenever the metrics are read."""
        self.registry.register(_Engines(figures))

    def clock(self, model: str, prompt_tokens: int) -> "Clock":
        """Return the clock of one request."""
        self.prompt_tokens.labels(model).inc(prompt_tokens)
        return Clock(self, model)

    def note(self, call: Call, path: str) -> None:
        """Count an answered request; `path` is a route, so that there are few of them."""
        self.requests.labels(path, str(call.status)).inc()
        self.seconds.labels(path).observe(call.took_s)
        if call.has_left:
            self.left.inc()
        if call.spent is not None and call.model:
            self.cached_tokens.labels(call.model).inc(call.spent.cached_tokens)

    def text(self) -> bytes:
        """Return all of it."""
        return generate_latest(self.registry)


class Clock:
    """When the tokens of one request came."""

    __slots__ = ("_between", "_first", "_last", "_written")

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._first = metrics.first_token.labels(model)
        self._between = metrics.between_tokens.labels(model)
        self._written = metrics.written_tokens.labels(model)
        self._last = time.perf_counter()

    def step(self, tokens: int) -> None:
        """Note the tokens of one step."""
        if not tokens:
            return
        now = time.perf_counter()
        watch, self._first = self._first, self._between
        watch.observe(now - self._last)
        self._last = now

    def end(self, tokens: int) -> None:
        """Count what was written."""
        self._written.inc(tokens)


class _Engines(Collector):
    def __init__(self, figures: Callable[[], Mapping[str, Mapping[str, float]]]) -> None:
        self._figures = figures

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Any]:
        families: dict[str, GaugeMetricFamily] = {}
        for model, figures in self._figures().items():
            for name, value in figures.items():
                if name not in families:
                    text = name.replace("_", " ")
                    families[name] = GaugeMetricFamily(
                        f"puna_engine_{name}", f"Of the engine: {text}.", labels=("model",)
                    )
                families[name].add_metric((model,), value)
        yield from families.values()
