"""Prometheus metrics of the endpoint. Labels have few values, none of a client's making."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from limo_ray.serve.request_context import RequestContext

SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class ServeMetrics:
    """One endpoint's metrics, in a registry of their own: several may share a process."""

    def __init__(self, running: Callable[[], float], waiting: Callable[[], float]) -> None:
        """
        Args:
            running: how many requests the engines have; called at each scrape.
            waiting: how many wait.
        """
        self.registry = registry = CollectorRegistry()

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=SECONDS, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def gauge(name: str, text: str, value: Callable[[], float]) -> None:
            Gauge(name, text, registry=registry).set_function(value)

        self.requests = counter("limo_ray_requests", "Requests answered", "route", "status", "key")
        self.refused = counter("limo_ray_refused", "Requests refused, by error code", "reason")
        self.tokens = counter("limo_ray_tokens", "Tokens of the answers", "direction", "key")
        self.wait = histogram("limo_ray_wait_seconds", "Time in the queue")
        self.first = histogram(
            "limo_ray_first_byte_seconds", "Arrival to the answer's first byte", "route"
        )
        self.duration = histogram(
            "limo_ray_duration_seconds", "Arrival to the answer's last byte", "route"
        )
        gauge("limo_ray_inside", "Requests that the engines have", running)
        gauge("limo_ray_waiting", "Requests in the queue", waiting)
        ProcessCollector(registry=registry)

    def text(self, *, with_keys: bool) -> tuple[bytes, str]:
        """The exposition and its content type; names of keys only for whoever has one."""
        registry = self.registry if with_keys else _WithoutKeys(self.registry)
        return generate_latest(registry), CONTENT_TYPE_LATEST

    def record(self, context: RequestContext, status: int, key: str, total_s: float) -> None:
        """Counts one request at its end."""
        route = context.route
        self.requests.labels(route, status, key).inc()
        self.duration.labels(route).observe(total_s)
        if context.first_byte_s is not None:
            self.first.labels(route).observe(context.first_byte_s)
        if context.queue_s:
            self.wait.observe(context.queue_s)
        if context.usage:
            self.tokens.labels("in", key).inc(context.usage[0])
            self.tokens.labels("out", key).inc(context.usage[1])


@dataclass
class _WithoutKeys:
    """A registry whose samples are summed over the label `key`."""

    registry: CollectorRegistry

    def collect(self) -> Iterator[Metric]:
        for family in self.registry.collect():
            if any("key" in sample.labels for sample in family.samples):
                family.samples = list(self._summed(family.samples))
            yield family

    def _summed(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        sums: dict[tuple[str, tuple[tuple[str, str], ...]], float] = defaultdict(float)
        for sample in samples:
            if not sample.name.endswith("_created"):
                labels = tuple(pair for pair in sample.labels.items() if pair[0] != "key")
                sums[sample.name, labels] += sample.value
        for (name, labels), value in sums.items():
            yield Sample(name, dict(labels), value)
