"""Errors in OpenAI's format: {"error": {"message", "type", "param", "code"}}."""

import logging
import math
from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from limo_ray.serve.request_context import HttpMiddleware, RequestContext

log = logging.getLogger(__name__)

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
}


class ApiError(Exception):
    """An error for the client: raised anywhere below `ErrorResponses`, which answers it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """
        Args:
            status: HTTP status.
            message: for the client: no secrets, no traceback.
            code: OpenAI's `code`, a word of a fixed list; also the label of the metric
                limo_ray_refused_total.
            param: the field of the request that is wrong.
            retry_after_s: when to try again; rounded up, at least 1.
            headers: further ones of the response.
        """
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["retry-after"] = str(max(1, math.ceil(retry_after_s)))

    def body(self) -> dict[str, Any]:
        default = "invalid_request_error" if self.status < 500 else "server_error"
        kind = TYPES.get(self.status, default)
        fields = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": fields}

    def response(self) -> Response:
        return JSONResponse(self.body(), self.status, self.headers)

    def event(self) -> bytes:
        """As the last event of a stream that has begun."""
        return b"data: " + JSONResponse(self.body()).body + b"\n\n"


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """A 400."""
    return ApiError(400, message, code=code, param=param)


async def http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own errors (no such path, wrong method) in OpenAI's format."""
    assert isinstance(error, HTTPException)
    path, method = request.url.path, request.method
    message, code = error.detail, None
    if error.status_code == 404:
        message, code = f"no such path: {method} {path}", "unknown_url"
    elif error.status_code == 405:
        message, code = f"{path} does not take {method}", "bad_method"
    headers = dict(error.headers or {})
    return ApiError(error.status_code, message, code=code, headers=headers).response()


class ErrorResponses(HttpMiddleware):
    """Answers exceptions: an ApiError as it is, any other as a 500 whose cause is in the log."""

    def __init__(self, app: ASGIApp, on_error: Callable[[ApiError], None]) -> None:
        super().__init__(app)
        self.on_error = on_error

    async def handle(
        self, context: RequestContext, scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            await self.app(scope, receive, send)
            if context.finished or context.disconnected:
                return
            raise RuntimeError("the application left its response unfinished")
        except ApiError as error:
            self.on_error(error)
            answer = error
        except Exception:  # whatever it is: the client gets an answer, the log the traceback
            if context.disconnected:
                return
            log.exception("request %s failed", context.id)
            if context.status and not context.streaming:
                raise  # only closing the connection tells the client now
            answer = ApiError(500, f"internal error {context.id}", code="internal_error")
        if not context.status:
            await answer.response()(scope, receive, send)
        elif not context.finished:
            await send({"type": "http.response.body", "body": answer.event(), "more_body": False})
