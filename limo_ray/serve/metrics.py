"""What Prometheus and the access log are told. Labels have few values, none of a client's make."""

import logging
import os
from collections.abc import Callable
from logging.handlers import WatchedFileHandler

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from limo_ray.serve.request_context import Visit

access = logging.getLogger("limo_ray.access")

SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


def open_log(file: str) -> None:
    """Sends the access log to `file`, or to stderr where nothing else takes it. Twice is once.

    A file that is moved away (logrotate) is made anew.

    Raises:
        ValueError: the file cannot be written.
    """
    access.setLevel(logging.INFO)
    if not file:
        handler: logging.Handler = logging.StreamHandler()
        if access.hasHandlers():
            return
    else:
        path = os.path.abspath(file)
        if any(getattr(known, "baseFilename", None) == path for known in access.handlers):
            return
        try:
            handler = WatchedFileHandler(path, encoding="utf-8")
        except OSError as error:
            raise ValueError(f"access_log: {file}: {error.strerror}") from None
        access.propagate = False
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    access.addHandler(handler)


class Metrics:
    """One gate's metrics, in a registry of their own: several gates may share a process."""

    def __init__(self, inside: Callable[[], float], waiting: Callable[[], float]) -> None:
        """
        Args:
            inside: how many requests are inside, asked at each scrape.
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
        self.refused = counter("limo_ray_refused", "Requests refused by the gate", "reason")
        self.tokens = counter("limo_ray_tokens", "Tokens of the answers", "direction", "key")
        self.wait = histogram("limo_ray_wait_seconds", "Time in the queue")
        self.first = histogram(
            "limo_ray_first_byte_seconds", "Arrival to the answer's first byte", "route"
        )
        self.duration = histogram(
            "limo_ray_duration_seconds", "Arrival to the answer's last byte", "route"
        )
        gauge("limo_ray_inside", "Requests that the application has", inside)
        gauge("limo_ray_waiting", "Requests in the queue", waiting)
        ProcessCollector(registry=registry)

    def text(self) -> tuple[bytes, str]:
        """The exposition and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    def record(self, visit: Visit, total: float) -> None:
        """Counts one request at its end, and writes its line in the access log.

        Args:
            visit: what is known of it.
            total: seconds since it arrived.
        """
        name = visit.key.name if visit.key else "none"
        status = visit.status or (499 if visit.gone else 500)
        self.requests.labels(visit.route, status, name).inc()
        self.duration.labels(visit.route).observe(total)
        if visit.first is not None:
            self.first.labels(visit.route).observe(visit.first)
        if visit.usage:
            self.tokens.labels("in", name).inc(visit.usage[0])
            self.tokens.labels("out", name).inc(visit.usage[1])
        if access.isEnabledFor(logging.INFO):
            access.info(visit.line(status, name, total))
