"""Bearer keys: every request but the page and the health checks needs one, where keys exist."""

from starlette.types import ASGIApp, Receive, Scope, Send

from limo_ray.serve.api_keys import ApiKeys
from limo_ray.serve.errors import ApiError
from limo_ray.serve.request_context import HttpMiddleware, RequestContext

LOCAL_HOSTS = ("", "localhost", "127.0.0.1", "::1")


class Authentication(HttpMiddleware):
    """Finds the key of each request; 401 without one."""

    def __init__(self, app: ASGIApp, keys: ApiKeys, metrics_open: bool) -> None:
        super().__init__(app)
        self.keys = keys
        self.metrics_open = metrics_open

    async def handle(
        self, context: RequestContext, scope: Scope, receive: Receive, send: Send
    ) -> None:
        header = context.headers.get(b"authorization")
        context.key = self.keys.find(None if header is None else header.decode("latin-1"))
        is_open = context.is_open and (self.metrics_open or context.path != "/metrics")
        if context.key is None and not is_open:
            raise ApiError(
                401,
                "no API key: send the header Authorization: Bearer <key>"
                if header is None
                else "this API key is not known",
                code="missing_api_key" if header is None else "invalid_api_key",
                headers={"www-authenticate": 'Bearer realm="limo_ray"'},
            )
        await self.app(scope, receive, send)


def open_host_warning(keys: ApiKeys, host: str) -> str | None:
    """The warning to log where others reach `host` and no key is required."""
    if keys.required or host in LOCAL_HOSTS:
        return None
    return f"no API keys: everybody who reaches {host} may use this endpoint (gate.keys_file)"
