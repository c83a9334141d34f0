"""What the gateway knows of one request, for its answer, the metrics and the access log."""

import re
import time
import uuid
from dataclasses import dataclass, field

from starlette.types import Message, Scope, Send

from limo_ray.serve.api_keys import ApiKey

OPEN_PATHS = ("/", "/page.css", "/page.js", "/health", "/ready", "/metrics")  # GET needs no key
RENDER = "/render"
ROUTES = (*OPEN_PATHS, RENDER, "/v1/models", "/v1/chat/completions", "/v1/completions")
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


@dataclass(slots=True)
class RequestContext:
    """One request. Times are seconds since it arrived."""

    id: str
    method: str
    path: str
    headers: dict[bytes, bytes]
    arrived: float = field(default_factory=time.monotonic)
    key: ApiKey | None = None
    started: bool = False  # the response has started
    status: int = 0  # of the response; 499 if the client left before it, 500 if there is none
    streaming: bool = False  # the response is an event stream
    finished: bool = False  # the response is complete
    disconnected: bool = False  # the client closed the connection before that
    first_byte_s: float | None = None
    queue_s: float = 0.0
    total_s: float = 0.0
    usage: tuple[int, int] | None = None  # tokens of the prompt and of the completions

    @classmethod
    def of(cls, scope: Scope) -> "RequestContext":
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        return cls(request_id, scope["method"], path, headers)

    @property
    def route(self) -> str:
        """The path as metrics name it: one of a fixed list, or "other"."""
        return self.path if self.path in ROUTES else "other"

    @property
    def is_open(self) -> bool:
        """Whether it is served without a key and while the server drains."""
        return self.method in ("GET", "HEAD") and self.path in OPEN_PATHS

    @property
    def has_body(self) -> bool:
        return self.method in ("POST", "PUT", "PATCH")

    def elapsed(self) -> float:
        return time.monotonic() - self.arrived

    def recording(self, send: Send) -> Send:
        """`send`, which adds the request's id to the answer, and records how the answer goes."""

        async def record_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.started, self.status = True, message["status"]
                headers = message["headers"]
                self.streaming = any(
                    name.lower() == b"content-type" and value.startswith(b"text/event-stream")
                    for name, value in headers
                )
                headers = [*headers, (b"x-request-id", self.id.encode())]
                message = {**message, "headers": headers}
            elif message["type"] == "http.response.body":
                if self.first_byte_s is None:
                    self.first_byte_s = self.elapsed()
                self.finished = not message.get("more_body", False)
            await send(message)

        return record_and_send

    def end(self) -> None:
        """The request is over, answered or not."""
        self.total_s = self.elapsed()
        if not self.started:
            self.status = 499 if self.disconnected else 500
