"""One request at the gate and the answer on its way out: ids, headers, errors in one format."""

import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from limo_ray.serve.errors import LONGEST, Refusal, converted, encode, error
from limo_ray.serve.keys import Key
from limo_ray.serve.usage import Meter

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

PAGE = ("/", "/page.css", "/page.js")
ROUTES = (  # as the metrics call them; every other path is "other"
    *PAGE, "/health", "/ready", "/metrics", "/render",
    "/v1/models", "/v1/chat/completions", "/v1/completions",
)  # fmt: skip
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


@dataclass(slots=True)
class Visit:
    """One request on its way through the gate."""

    id: str
    method: str
    path: str
    route: str
    began: float
    headers: dict[bytes, bytes]
    key: Key | None = None
    status: int = 0
    first: float | None = None  # seconds to the first byte
    waited: float = 0.0  # seconds in the queue
    finished: bool = False  # the last byte went out
    gone: bool = False  # the client hung up
    streams: bool = False  # the answer is an event stream
    usage: tuple[int, int] | None = None  # tokens in and out
    extra: list[Header] = field(default_factory=list)  # headers of the answer

    @classmethod
    def of(cls, scope: Scope, now: float) -> "Visit":
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        number = given.decode() if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        path = scope["path"]
        root = scope.get("root_path", "")
        if root and path.startswith(root):
            path = path[len(root) :] or "/"
        route = "/v1/models" if path.startswith("/v1/models/") else path
        route = route if route in ROUTES else "other"
        return cls(number, scope["method"], path, route, now, headers)

    def header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")

    def limits(self, headers: list[tuple[str, str]]) -> None:
        """Adds the x-ratelimit headers to the answer's."""
        self.extra += [(name.encode(), value.encode()) for name, value in headers]

    def cors(self, allowed: list[str]) -> bool:
        """Adds the headers for an allowed origin; True for a preflight, which asks for no more."""
        origin = self.header(b"origin")
        self.extra.append((b"vary", b"origin"))
        if not origin or (origin not in allowed and "*" not in allowed):
            return False
        self.extra += [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-expose-headers", b"x-request-id, retry-after"),
        ]
        if self.method != "OPTIONS" or b"access-control-request-method" not in self.headers:
            return False
        self.extra += [
            (b"access-control-allow-methods", b"GET, POST"),
            (b"access-control-allow-headers", b"authorization, content-type, x-request-id"),
            (b"access-control-max-age", b"600"),
        ]
        return True

    def line(self, status: int, name: str, total: float) -> str:
        """The access log's line. The path of a stranger's making is written in ASCII, cut."""
        path = self.path if self.route == self.path else ascii(self.path[:80])[1:-1]
        used = f" in={self.usage[0]} out={self.usage[1]}" if self.usage else ""
        first = "" if self.first is None else f" first={self.first:.3f}s"
        gone = " gone" if self.gone else ""
        return (
            f"{ascii(self.method)[1:-1][:10]} {path} {status}{gone} key={name}{used} "
            f"wait={self.waited:.3f}s{first} total={total:.3f}s id={self.id}"
        )


class Answer:
    """What goes out. `send` is ASGI's for the application behind the gate."""

    def __init__(self, visit: Visit, send: Send, clock: Callable[[], float]) -> None:
        self.visit = visit
        self.meter = Meter()
        self._send = send
        self._clock = clock
        self._started = False
        self._held: Message | None = None  # the start of an error, until its body is known
        self._body = b""

    async def send(self, message: Message) -> None:
        visit = self.visit
        if visit.finished:  # the gate has answered in the application's place
            return
        if message["type"] == "http.response.start":
            visit.status = message["status"]
            if visit.status >= 400:
                self._held = message
                return
            await self._start(message["status"], list(message.get("headers", ())))
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            more = message.get("more_body", False)
            if self._held is not None:
                if len(self._body) <= LONGEST:
                    self._body += body
                if not more:
                    await self._convert(self._held)
                return
            self.meter.feed(body)
            if visit.first is None and body:
                visit.first = self._clock() - visit.began
            visit.finished = not more
            await self._send(message)
        else:
            visit.finished = message["type"] == "http.response.pathsend"
            await self._send(message)

    async def whole(
        self, status: int, body: bytes, kind: str = "application/json", headers: tuple = ()
    ) -> None:
        """A whole answer of the gate's own."""
        own = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        if status == 204:
            own = []
        own += [(name.encode(), value.encode()) for name, value in headers]
        await self._start(status, own)
        self.visit.first = self._clock() - self.visit.began
        self.visit.finished = True
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def refuse(self, refusal: Refusal) -> None:
        headers = refusal.headers
        if refusal.retry_after is not None:
            # rounded up, or a client that comes on time is refused again
            headers = (*headers, ("retry-after", str(max(1, -int(-refusal.retry_after // 1)))))
        body = error(refusal.status, refusal.message, code=refusal.code, param=refusal.param)
        await self.whole(refusal.status, encode(body), headers=headers)

    async def fail(self) -> bool:
        """The application failed: says so as far as that is possible still.

        Returns:
            False when an answer other than an event stream has begun: only breaking the connection
            off tells the client then.
        """
        visit = self.visit
        body = encode(error(500, f"internal error {visit.id}", code="internal_error"))
        if visit.finished:
            return True
        if not self._started:
            await self.whole(500, body)
            return True
        if not visit.streams:
            return False
        visit.finished = True
        body = b"data: " + body + b"\n\n"
        await self._send({"type": "http.response.body", "body": body, "more_body": False})
        return True

    async def _start(self, status: int, headers: list[Header]) -> None:
        visit = self.visit
        self._started = True
        visit.status = status
        visit.streams = any(
            name.lower() == b"content-type" and value.startswith(b"text/event-stream")
            for name, value in headers
        )
        ours = {name for name, _ in visit.extra}
        kept = [header for header in headers if header[0].lower() not in ours]
        await self._send(
            {"type": "http.response.start", "status": status, "headers": [*kept, *visit.extra]}
        )

    async def _convert(self, start: Message) -> None:
        """An error of the application, with its body, in OpenAI's format."""
        visit = self.visit
        status, body = converted(start["status"], self._body, visit.method, visit.path, visit.id)
        changed = (b"content-length", b"content-type")
        kept = tuple(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in start.get("headers", ())
            if name.lower() not in changed
        )
        await self.whole(status, body, headers=kept)
