"""The web server of jobs/serve.py: uvicorn in a thread, with bounds on slow and many connections.

Clients reach the ingress without Serve's proxy in between, which would pass each chunk of an answer
through one more process; on few cores that is time the model could use. `serve run` and `serve
deploy` keep Serve's proxy: put a load balancer with such bounds before that.
"""

import asyncio
import errno
import logging
import resource
import socket
import threading
from collections import defaultdict
from collections.abc import Coroutine
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from limo_ray.serve.config import GateConfig

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 75  # longer than clients keep idle connections: they close first
MAX_HEADER_BYTES = 64 * 1024
MAX_READ_BYTES = 256 * 1024  # of one read: the body may begin in the header's last one


def listening_socket(host: str, port: int) -> socket.socket:
    """The address, bound but not yet listened at: clients are refused until it is.

    Raises:
        ValueError: it cannot be had.
    """
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        advice = "; set port to a free one" if error.errno == errno.EADDRINUSE else ""
        raise ValueError(f"port: {host}:{port}: {error.strerror}{advice}") from None
    return made


def raise_open_files_limit() -> None:
    """Each connection takes a file descriptor: the soft limit becomes the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class BoundedConnection(HttpToolsProtocol):
    """A connection that is closed when a request's header is slow or large.

    At the limit of an address its oldest idle connection gives way to a new one; if none is idle,
    the new one is closed.
    """

    gate: GateConfig  # set by the subclass of each server
    open: dict[str, dict["BoundedConnection", None]]  # by address, oldest first

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self.idle = True  # no request under way
        self._header_bytes = 0
        self._expect_header()
        connections = self.open[self.address]
        connections[self] = None
        if len(connections) > self.gate.max_connections_per_address:
            surplus = next(each for each in connections if each.idle)
            del connections[surplus]
            surplus._abort("too many connections")

    def data_received(self, data: bytes) -> None:
        if not self._header_timer.cancelled():
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES + MAX_READ_BYTES:
                self._abort("large header")
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        if self._header_timer.cancelled():  # the next request of a kept connection
            self._expect_header()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._header_timer.cancel()
        self._header_bytes = 0
        self.idle = False
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.idle = self.cycle.response_complete

    def _expect_header(self) -> None:
        timeout_s = self.gate.header_timeout_s
        self._header_timer = self.loop.call_later(timeout_s, self._abort, "slow header")

    def connection_lost(self, exc: Exception | None) -> None:
        self._header_timer.cancel()
        self.open[self.address].pop(self, None)
        if not self.open[self.address]:
            del self.open[self.address]
        super().connection_lost(exc)

    def _abort(self, why: str) -> None:
        log.debug("closed a connection of %s: %s", self.address, why)
        self.transport.abort()


class HttpServer:
    """An ASGI application's server in a thread, so that signals stay the main thread's."""

    def __init__(self, app: Any, gate: GateConfig, listener: socket.socket) -> None:
        """
        Args:
            listener: see `listening_socket`; closed with the server.
        """
        raise_open_files_limit()
        shared = {"gate": gate, "open": defaultdict(dict)}
        protocol = type("Connection", (BoundedConnection,), shared)
        settings = uvicorn.Config(
            app, http=protocol, access_log=False, log_config=None, lifespan="off",
            timeout_keep_alive=KEEP_ALIVE_S,
        )  # fmt: skip
        self.server = uvicorn.Server(settings)
        self.listener = listener
        self.runner = asyncio.Runner(loop_factory=settings.get_loop_factory())
        self.loop = self.runner.get_loop()
        self.thread = threading.Thread(target=self._run, name="http-server", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        with self.runner:
            self.runner.run(self.server.serve([self.listener]))

    def run(self, coroutine: Coroutine[Any, Any, int]) -> int:
        """The result of a coroutine that runs in the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def close(self) -> None:
        """Ends the server and what connections are left."""
        self.server.should_exit = self.server.force_exit = True
        self.thread.join(10)
