"""The door of the endpoint: keys, limits, a bounded queue, errors in one format, metrics, a log.

    app = Gate(fastapi_app, GateConfig(keys_file="keys.txt", rpm=60), ready=engine_is_ready)

A plain ASGI application around another one: it copies nothing of a streamed answer and adds no
task to it. It knows nothing of Ray or of the engine. All its state is that of one process: with
several ingress replicas each has its own buckets, queue and metrics, so that the limits hold per
replica; run one (an ingress only passes text on), or divide the limits by their number.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from limo_ray.serve import bodies
from limo_ray.serve.bodies import Gone
from limo_ray.serve.errors import Refusal, encode
from limo_ray.serve.keys import Key, Keys
from limo_ray.serve.limits import Full, Grant, Limiter, Queue
from limo_ray.serve.metrics import Metrics, open_log
from limo_ray.serve.ready import Readiness
from limo_ray.serve.request_context import PAGE, Answer, App, Message, Receive, Scope, Send, Visit
from limo_ray.serve.rules import GateConfig, exposed
from limo_ray.serve.usage import counts

__all__ = ["Gate", "GateConfig", "exposed"]

log = logging.getLogger(__name__)

LATER = (("retry-after", "5"),)
ANSWERS = ("/health", "/ready", "/metrics")  # by the gate itself


class Gate:
    """The door. `await gate.drain()` closes it behind the last one."""

    def __init__(
        self,
        app: App,
        config: GateConfig,
        *,
        ready: Callable[[], Awaitable[bool]] | None = None,
        host: str = "",
        id_header: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            app: the ASGI application behind the gate.
            config: checked already.
            ready: whether the application can answer; None for always.
            host: that the server listens on, for the warning about missing keys.
            id_header: answers carry x-request-id; false where a proxy before the gate adds it,
                as Ray Serve's does.
            clock: seconds.

        Raises:
            ValueError: the keys cannot be read, or the access log not written.
        """
        self.app = app
        self.config = config
        self.ready = Readiness(ready, clock)
        self.clock = clock
        self.keys = Keys(config.keys_file, config.keys_env, clock=clock)
        self.limiter = Limiter(config.rpm, config.tpm)
        self.queue = Queue(config.max_concurrent, config.max_queue)
        self.metrics = Metrics(lambda: self.queue.inside, lambda: self.queue.waiting)
        self.id_header = id_header
        self.draining = False
        self.busy = 0  # requests in the gate, wherever
        self.reading = 0  # bodies on their way
        self.mean_s = 1.0  # a request's time inside, for Retry-After of a full queue
        self._idle = asyncio.Event()
        self._idle.set()
        open_log(config.access_log)
        warning = exposed(self.keys, host)
        if warning:
            log.warning(warning)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # a websocket would walk past everything here
            await send({"type": "websocket.close", "code": 1008})
            return
        visit = Visit.of(scope, self.clock())
        if self.id_header:
            visit.extra.append((b"x-request-id", visit.id.encode()))
        answer = Answer(visit, send, self.clock)
        self.busy += 1
        self._idle.clear()
        try:
            await self._admit(visit, scope, receive, answer)
        except Refusal as refusal:
            self.metrics.refused.labels(refusal.reason).inc()
            await answer.refuse(refusal)
        except Gone:
            visit.gone = True
        except asyncio.CancelledError:  # how Ray Serve tells of a client that hung up
            visit.gone = True
            raise
        finally:
            self.busy -= 1
            if self.busy == 0:
                self._idle.set()
            self.metrics.record(visit, self.clock() - visit.began)

    async def drain(self, timeout: float) -> int:
        """Lets nobody in any more, and waits for those inside and in the queue.

        Args:
            timeout: seconds.

        Returns:
            How many were still there when the time was up.
        """
        self.draining = True
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            log.warning("drain: %d requests were still there", self.busy)
        return self.busy

    async def _admit(self, visit: Visit, scope: Scope, receive: Receive, answer: Answer) -> None:
        """From the request's first line to the application, or a Refusal on the way."""
        config = self.config
        if config.cors_origins and visit.cors(config.cors_origins):
            await answer.whole(204, b"")
            return
        if self.keys.refresh():
            self.limiter.keep({key.name for key in self.keys.all})
        reads = visit.method in ("GET", "HEAD")
        open_ = reads and (visit.path in PAGE or visit.path in ANSWERS)
        if visit.path == "/metrics" and not config.metrics_open:
            open_ = False
        if not open_:
            visit.key = self._key(visit)
        if reads and visit.path in ANSWERS:
            await self._answer(visit, answer)
            return
        if self.draining and not open_:
            raise Refusal(
                503, "the server is about to stop", reason="drain", code="draining", retry_after=5
            )
        if visit.method not in ("POST", "PUT", "PATCH"):
            await self._through(visit, scope, receive, answer)
            return
        body = await self._body(visit, receive)
        request = bodies.parse(body, visit.header(b"content-type"), config.max_depth)
        if visit.path == "/render":  # no work for the engine
            await self._through(visit, scope, bodies.replay(body, receive), answer)
            return
        bodies.check(request, config)
        prompt, most = bodies.tokens_at_most(request, len(body), config)
        assert visit.key is not None
        try:
            grant = self.limiter.take(visit.key, prompt + most, self.clock())
        finally:
            visit.limits(self.limiter.headers(visit.key, self.clock()))
        watch = asyncio.ensure_future(bodies.hung_up(receive))
        entered = False
        try:
            await self._enter(visit, watch)
            entered = True
            await self._inside(visit, scope, body, watch, answer)
        finally:
            watch.cancel()
            if entered:
                self.queue.leave()
                self._settle(visit, grant, prompt, answer)
            else:
                self.limiter.give_back(grant, self.clock())

    def _key(self, visit: Visit) -> Key:
        header = visit.headers.get(b"authorization")
        key = self.keys.who(None if header is None else header.decode("latin-1"))
        if key is None:
            raise Refusal(
                401,
                "no API key: send the header Authorization: Bearer <key>"
                if header is None
                else "this API key is not known",
                reason="key",
                code="missing_api_key" if header is None else "invalid_api_key",
                headers=(("www-authenticate", 'Bearer realm="limo_ray"'),),
            )
        return key

    async def _body(self, visit: Visit, receive: Receive) -> bytes:
        """The body. No more of them are read at once than could go in or wait."""
        if self.reading >= self.config.max_concurrent + self.config.max_queue:
            raise self._full()
        self.reading += 1
        try:
            return await bodies.read(
                receive,
                self.config.max_body_bytes,
                self.config.body_timeout_s,
                visit.headers.get(b"content-length"),
            )
        finally:
            self.reading -= 1

    async def _enter(self, visit: Visit, watch: asyncio.Future[None]) -> None:
        """Through the queue. Refusal, Gone or a cancellation leave no trace in it."""
        assert visit.key is not None
        name = visit.key.name
        try:
            ticket = self.queue.enter(name)
        except Full:
            raise self._full() from None
        if ticket is None:
            self.metrics.wait.observe(0)
            return
        began = self.clock()
        try:
            await asyncio.wait(
                (ticket, watch), timeout=self.config.max_wait_s, return_when="FIRST_COMPLETED"
            )
        except asyncio.CancelledError:
            self.queue.give_up(name, ticket)
            raise
        visit.waited = self.clock() - began
        self.metrics.wait.observe(visit.waited)
        if watch.done():
            self.queue.give_up(name, ticket)
            raise Gone
        if ticket.cancelled():  # its place went to a key that had none
            raise self._full()
        if not ticket.done():
            self.queue.give_up(name, ticket)
            raise Refusal(
                429,
                f"waited {self.config.max_wait_s:g} s in the queue",
                reason="wait",
                code="queue_timeout",
                retry_after=self._turn(),
            )

    def _full(self) -> Refusal:
        return Refusal(
            429,
            "the server is busy and its queue is full",
            reason="queue",
            code="queue_full",
            retry_after=self._turn(),
        )

    def _turn(self) -> float:
        """About how many seconds the queue takes to empty: 1 to 60."""
        turns = (self.queue.waiting + 1) / self.config.max_concurrent
        return min(60.0, max(1.0, turns * self.mean_s))

    async def _inside(
        self, visit: Visit, scope: Scope, body: bytes, watch: asyncio.Future[None], answer: Answer
    ) -> None:
        """The application's turn; a client that hangs up cancels it, so that its place is free."""
        task = asyncio.current_task()
        assert task is not None

        def cancel(_: asyncio.Future[None]) -> None:
            if not visit.finished:
                visit.gone = True
                task.cancel()

        async def after_body() -> Message:
            await asyncio.wait((watch,))
            return {"type": "http.disconnect"}

        watch.add_done_callback(cancel)
        began = self.clock()
        try:
            await self._through(visit, scope, bodies.replay(body, after_body), answer)
        except asyncio.CancelledError:
            if not visit.gone or task.cancelling() > 1:
                raise
        finally:
            watch.remove_done_callback(cancel)
            if visit.gone:
                task.uncancel()
            self.mean_s += 0.1 * (self.clock() - began - self.mean_s)

    async def _through(self, visit: Visit, scope: Scope, receive: Receive, answer: Answer) -> None:
        scope.setdefault("state", {})["request_id"] = visit.id
        try:
            await self.app(scope, receive, answer.send)
        except Exception:  # whatever it is: the client gets an answer, the log the traceback
            if visit.gone:
                return
            log.exception("request %s failed", visit.id)
            if not await answer.fail():
                raise
        else:
            if not visit.finished and not visit.gone:
                log.error("request %s: the application left its answer unfinished", visit.id)
                await answer.fail()
        visit.usage = counts(scope["state"].get("usage"))

    def _settle(self, visit: Visit, grant: Grant, prompt: int, answer: Answer) -> None:
        """Counts the tokens: as told by the app or the response, else by a stream's events.

        An error costs nothing. An answer that was cut off before it told anything costs what was
        set aside for it: the engine may well have made all of it.
        """
        usage = visit.usage or answer.meter.usage()
        if usage is None and visit.status >= 400:
            usage = 0, 0
        if usage is None and visit.streams:
            usage = prompt, answer.meter.events
        visit.usage = usage
        self.limiter.settle(grant, grant.tokens if usage is None else sum(usage), self.clock())

    async def _answer(self, visit: Visit, answer: Answer) -> None:
        """/health, /ready, /metrics."""
        if visit.path == "/metrics":
            text, kind = self.metrics.text()
            await answer.whole(200, text, kind)
        elif visit.path == "/health":
            await answer.whole(200, encode({"status": "alive"}))
        elif self.draining:
            await answer.whole(503, encode({"ready": False, "reason": "draining"}), headers=LATER)
        elif await self.ready():
            await answer.whole(200, encode({"ready": True}))
        else:
            await answer.whole(503, encode({"ready": False}), headers=LATER)
