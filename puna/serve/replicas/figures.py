"""`/metrics` of many replicas: every sample of each, with its name, and what the front counts.

Nothing is added up here: Prometheus sums over the label `replica`, and keeps the means honest.
"""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from puna.serve.replicas.carried import Begun


class FrontFigures:
    """The counters of one front."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._routed = self._counter("puna_routed", "Answers that began, by replica.", "replica")
        self._keys = self._counter("puna_routed_keys", "Pieces of text that were asked about.")
        self._known = self._counter(
            "puna_routed_known_keys", "Pieces of text that the replica had read before."
        )
        self.lost = self._counter("puna_replicas_lost", "Answers whose replica died.")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def routed(self, begun: Begun, keys: int) -> None:
        """Count an answer that has begun."""
        self._routed.labels(begun.replica).inc()
        self._keys.inc(keys)
        self._known.inc(begun.known)

    def text(self, of_replicas: Mapping[str, str], *, running: int, ready: int) -> bytes:
        """Return all of it."""
        registry = CollectorRegistry()
        registry.register(_Gathered(of_replicas))
        registry.register(_Now({"puna_front_running": running, "puna_replicas_ready": ready}))
        return generate_latest(self._registry) + generate_latest(registry)


def gathered(texts: Mapping[str, str]) -> Iterator[Metric]:
    """Yield each family once, with the samples of every replica under its name."""
    families: dict[str, Metric] = {}
    for replica, text in texts.items():
        for family in text_string_to_metric_families(text):
            kept = families.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            for sample in family.samples:
                labels = {**sample.labels, "replica": replica}
                kept.add_sample(sample.name, labels, sample.value)
    yield from families.values()


class _Gathered(Collector):
    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from gathered(self._texts)


class _Now(Collector):
    def __init__(self, values: Mapping[str, float]) -> None:
        self._values = values

    def collect(self) -> Iterator[Metric]:
        for name, value in self._values.items():
            yield GaugeMetricFamily(name, "Of the front, now.", value=value)
