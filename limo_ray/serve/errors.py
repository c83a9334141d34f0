"""Errors in OpenAI's format: {"error": {"message", "type", "param", "code"}}."""

import math
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
}


class ApiError(Exception):
    """An error for the client: raised anywhere behind the gate, which answers it."""

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
