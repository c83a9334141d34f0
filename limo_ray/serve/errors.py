"""What the endpoint says when it says no: OpenAI's error format, no secrets.

{"error": {"message": ..., "type": ..., "param": ..., "code": ...}}
"""

import json
from typing import Any

LONGEST = 64 * 1024  # bytes of an error that is looked into; a longer one is told in one line

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "service_unavailable_error",
}


class Refusal(Exception):
    """A request that goes no further: raised anywhere in the gate, answered in one place."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        reason: str,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """
        Args:
            status: HTTP status.
            message: for the client; no secrets, no traceback.
            reason: label of the metric `limo_ray_refused_total`: a word of a fixed list.
            code: OpenAI's `code`; `reason` when left out.
            param: the field of the request that is wrong.
            retry_after: seconds after which to come again.
            headers: further ones of the response.
        """
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason
        self.code = code or reason
        self.param = param
        self.retry_after = retry_after
        self.headers = headers


def error(
    status: int, message: str, *, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """The body of an error answer, before JSON."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def encode(value: dict[str, Any]) -> bytes:
    """JSON in ASCII: it stays valid whatever half characters the value holds."""
    return json.dumps(value).encode()


def converted(status: int, body: bytes, method: str, path: str, number: str) -> tuple[int, bytes]:
    """An error of the application (FastAPI's, Starlette's, vLLM's) in OpenAI's format.

    Args:
        status: what the application answered, 400 or more.
        body: its body; None of it but a message it meant for the client is passed on.
        method: of the request.
        path: of the request.
        number: the request's id, named where the cause is only in the log.

    Returns:
        Status and body. A body in OpenAI's format already comes back as it is; a validation error
        (422 of FastAPI) becomes 400, as OpenAI answers it.
    """
    try:
        found = json.loads(body) if len(body) <= LONGEST else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        found = {}
    inner = found.get("error")
    if isinstance(inner, dict) and isinstance(inner.get("message"), str):
        return status, body
    detail = found.get("detail", found.get("message", inner))
    if isinstance(detail, list):
        message, param = _fields(detail)
        return 400, encode(error(400, message, code="invalid_value", param=param))
    if status == 404 and detail in (None, "Not Found"):
        return status, encode(error(404, f"no such path: {method} {path}", code="unknown_url"))
    if status == 405:
        return status, encode(error(405, f"{path} does not take {method}", code="bad_method"))
    if not isinstance(detail, str):
        detail = f"internal error {number}" if status >= 500 else f"refused with {status}"
    code = "internal_error" if status >= 500 else None
    return status, encode(error(status, detail, code=code))


def _fields(detail: list[Any]) -> tuple[str, str | None]:
    """Pydantic's complaints in one line, without the values it quotes; the first field's name."""
    complaints, first = [], None
    for item in detail[:5]:
        if not isinstance(item, dict):
            continue
        place = ".".join(str(part) for part in item.get("loc", ()) if part != "body")
        first = first or place or None
        complaints.append(f"{place}: {item.get('msg')}" if place else str(item.get("msg")))
    return "; ".join(complaints) or "the request does not fit the schema", first
