"""Prometheus metrics of the endpoint. Labels have few values, none of a client's making."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from limo_ray.serve.request_context import RequestContext

SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class ServeMetrics:
    """One endpoint's metrics, in registries of their own: several may share a process.

    What names keys has a registry apart, shown to whoever has a key.
    """

    def __init__(self, running: Callable[[], float], waiting: Callable[[], float]) -> None:
        """
        Args:
            running: how many requests the engines have; called at each scrape.
            waiting: how many wait.
        """
        self.registry, self.by_key = registry, by_key = CollectorRegistry(), CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            registry_ = by_key if "key" in labels else registry
            return Counter(f"limo_ray_{name}", text, labels, registry=registry_)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"limo_ray_{name}", text, labels, buckets=SECONDS, registry=registry)

        def gauge(name: str, text: str, value: Callable[[], float]) -> None:
            Gauge(f"limo_ray_{name}", text, registry=registry).set_function(value)

        self.requests = counter("requests", "Requests answered", "route", "status")
        self.tokens = counter("tokens", "Tokens of the answers", "direction")
        self.key_requests = counter("key_requests", "Requests of each key", "status", "key")
        self.key_tokens = counter("key_tokens", "Tokens of each key", "direction", "key")
        self.refused = counter("refused", "Requests refused, by error code", "reason")
        self.wait = histogram("wait_seconds", "Time in the queue")
        self.first = histogram("first_byte_seconds", "Arrival to the answer's first byte", "route")
        self.duration = histogram("duration_seconds", "Arrival to the answer's last byte", "route")
        gauge("inside", "Requests that the engines have", running)
        gauge("waiting", "Requests in the queue", waiting)
        ProcessCollector(registry=registry)

    def text(self, *, with_keys: bool) -> tuple[bytes, str]:
        """The exposition and its content type; names of keys only for whoever has one."""
        text = generate_latest(self.registry)
        return text + generate_latest(self.by_key) if with_keys else text, CONTENT_TYPE_LATEST

    def record(self, context: RequestContext) -> None:
        """Counts one request at its end."""
        route, key = context.route, context.key.name if context.key else "none"
        self.requests.labels(route, context.status).inc()
        self.key_requests.labels(context.status, key).inc()
        self.duration.labels(route).observe(context.total_s)
        if context.first_byte_s is not None:
            self.first.labels(route).observe(context.first_byte_s)
        if context.queue_s:
            self.wait.observe(context.queue_s)
        for direction, tokens in zip(("in", "out"), context.usage or (), strict=False):
            self.tokens.labels(direction).inc(tokens)
            self.key_tokens.labels(direction, key).inc(tokens)
