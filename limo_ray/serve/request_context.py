"""What the middleware knows of one request, and the middleware's base class."""

import re
import uuid
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Receive, Scope, Send

from limo_ray.serve.api_keys import ApiKey

OPEN_PATHS = ("/", "/page.css", "/page.js", "/health", "/ready", "/metrics")  # GET needs no key
RENDER = "/render"
ROUTES = (*OPEN_PATHS, RENDER, "/v1/models", "/v1/chat/completions", "/v1/completions")
WITH_BODY = ("POST", "PUT", "PATCH")
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


@dataclass(slots=True)
class RequestContext:
    """One request. Times are seconds since it arrived."""

    id: str
    method: str
    path: str
    headers: dict[bytes, bytes]
    key: ApiKey | None = None
    body_bytes: int = 0
    status: int = 0  # of the response, once it has started
    streaming: bool = False  # the response is an event stream
    finished: bool = False  # the response is complete
    disconnected: bool = False  # the client closed the connection before that
    first_byte_s: float | None = None
    queue_s: float = 0.0
    usage: tuple[int, int] | None = None  # tokens of the prompt and of the completions
    response_headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    @classmethod
    def of(cls, scope: Scope) -> "RequestContext":
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        path = scope["path"]
        root = scope.get("root_path", "")
        if root and path.startswith(root):
            path = path[len(root) :] or "/"
        return cls(request_id, scope["method"], path, headers)

    @property
    def route(self) -> str:
        """The path as metrics name it: one of a fixed list, or "other"."""
        return self.path if self.path in ROUTES else "other"

    @property
    def is_open(self) -> bool:
        """Whether it is served without a key and while the server drains."""
        return self.method in ("GET", "HEAD") and self.path in OPEN_PATHS


class HttpMiddleware:
    """Passes HTTP requests to `handle`, everything else (lifespan) straight on."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.handle(scope["state"]["context"], scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def handle(
        self, context: RequestContext, scope: Scope, receive: Receive, send: Send
    ) -> None:
        raise NotImplementedError
