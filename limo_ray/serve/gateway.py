"""The middleware before the endpoint's routes, put together.

    Gateway(config.gate, ready=engine_is_ready).application(routes)

Outermost first: access log and metrics, CORS, errors in one format, keys, requests per minute,
then admission (body, queue, slot). All state is that of one process: with several ingress replicas
the limits hold for each of them. It knows nothing of Ray or of the engine.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from limo_ray.serve import health
from limo_ray.serve.access_log import AccessLog, open_log
from limo_ray.serve.admission import Admission, AdmissionQueue
from limo_ray.serve.api_keys import ApiKeys
from limo_ray.serve.auth import Authentication, open_host_warning
from limo_ray.serve.config import GateConfig
from limo_ray.serve.errors import ApiError, ErrorResponses, http_exception
from limo_ray.serve.metrics import ServeMetrics
from limo_ray.serve.rate_limits import RateLimits

log = logging.getLogger(__name__)


class Gateway:
    """Keys, limits, queue, metrics. `queue.drain` ends it."""

    def __init__(
        self, config: GateConfig, *, ready: Callable[[], Awaitable[bool]], host: str = ""
    ) -> None:
        """
        Args:
            config: checked already.
            ready: whether the application can answer.
            host: that the server listens on, for the warning about missing keys.

        Raises:
            ValueError: the keys cannot be read, or the access log not written.
        """
        self.config = config
        self.keys = ApiKeys(config.keys_file, config.keys_env)
        self.queue = AdmissionQueue(config)
        self.metrics = ServeMetrics(lambda: self.queue.running, lambda: self.queue.waiting)
        self.readiness = health.Readiness(ready)
        open_log(config.access_log)
        if warning := open_host_warning(self.keys, host):
            log.warning(warning)

    def application(self, routes: Sequence[BaseRoute]) -> Starlette:
        """The routes, and /health, /ready, /metrics, behind the middleware."""
        config = self.config
        middleware = [
            Middleware(AccessLog, self.metrics),
            Middleware(ErrorResponses, self._count_error),
            Middleware(Authentication, self.keys, config.metrics_open),
            Middleware(RateLimits, config.rpm),
            Middleware(Admission, self.queue, config),
        ]
        if config.cors_origins:
            cors = Middleware(
                CORSMiddleware,
                allow_origins=config.cors_origins,
                allow_methods=["GET", "POST"],
                allow_headers=["authorization", "content-type", "x-request-id"],
                expose_headers=["x-request-id", "retry-after"],
            )
            middleware.insert(1, cors)
        return Starlette(
            routes=[*routes, *health.routes(self.queue, self.metrics, self.readiness)],
            middleware=middleware,
            exception_handlers={HTTPException: http_exception},
        )

    def _count_error(self, error: ApiError) -> None:
        self.metrics.refused.labels(error.code or "other").inc()
