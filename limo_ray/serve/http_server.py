"""The ingress in the job's own process: clients reach it without Serve's proxy in between.

A proxy would pass each piece of an answer through one more process; on few cores that is time the
model could use. `serve run` and `serve deploy` keep Serve's proxy: there it finds the ingress.
"""

import asyncio
import socket
import threading
from typing import Any

import uvicorn

from limo_ray.serve.app import Ingress
from limo_ray.serve.config import ServeConfig

KEEP_ALIVE_S = 75  # longer than clients keep idle connections: they close first


def bound(config: ServeConfig) -> socket.socket:
    """The config's address, taken, but not listened at yet: clients are refused until it is.

    Raises:
        ValueError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    taken = socket.socket(family)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((config.host, config.port))
    except OSError as error:
        taken.close()
        raise ValueError(f"port: {config.host}:{config.port}: {error.strerror}") from None
    return taken


class Front:
    """A web server in a thread, so that signals stay the main thread's."""

    def __init__(self, config: ServeConfig, replicas: Any, taken: socket.socket) -> None:
        """
        Args:
            replicas: Serve's handle of the engines.
            taken: see `bound`.
        """
        self.ingress = Ingress(config, replicas)
        self.socket = taken
        settings = uvicorn.Config(
            self.ingress.__serve_build_asgi_app__(), access_log=False, log_config=None,
            timeout_keep_alive=KEEP_ALIVE_S, lifespan="off",
        )  # fmt: skip
        self.server = uvicorn.Server(settings)
        self.runner = asyncio.Runner(loop_factory=settings.get_loop_factory())
        self.loop = self.runner.get_loop()
        self.thread = threading.Thread(target=self._run, name="front", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        with self.runner:
            self.runner.run(self.server.serve([self.socket]))

    def drain(self) -> int:
        """Lets nobody in, waits for those inside; returns how many were still there at the end."""
        return asyncio.run_coroutine_threadsafe(self.ingress.drain(), self.loop).result()

    def close(self) -> None:
        """Ends the server and what connections are left."""
        self.server.should_exit = self.server.force_exit = True
        self.thread.join(10)
