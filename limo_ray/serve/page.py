"""The page at /: a chat with the model, its thinking apart from its answer, maths rendered.

    page.mount(app, "limo-32b")     adds /, /page.css, /page.js and POST /render

It works without a network: nothing is fetched but from the endpoint itself, and the browser is told
to refuse anything else. Formulas become MathML on the server, by limo_ray/report/latex_html.py,
which escapes all that it does not know; the browser puts nothing else into the page but as text.
"""

import asyncio
import html
import json
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from limo_ray.report import latex_html
from limo_ray.report.templates import clean
from limo_ray.serve.errors import error

FOLDER = Path(__file__).parent
LONGEST = 32_768  # characters to render at once; the page sends a longer text in parts
AT_ONCE = 2  # texts being rendered; they share the interpreter with the streams
WAITING = 64

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types rendered",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def mount(app: FastAPI, model_name: str) -> None:
    """Adds the page and what it needs to `app`.

    Args:
        app: also offers /v1/chat/completions and /v1/models.
        model_name: as the page shows it and asks for it.
    """
    name = html.escape(clean(model_name))
    page = (FOLDER / "page.html").read_text(encoding="utf-8").replace("{{ model }}", name)
    files = {
        "/": (page, "text/html"),
        "/page.css": ((FOLDER / "page.css").read_text(encoding="utf-8"), "text/css"),
        "/page.js": ((FOLDER / "page.js").read_text(encoding="utf-8"), "text/javascript"),
    }
    rendering = asyncio.Semaphore(AT_ONCE)
    waiting = 0

    async def file(request: Request) -> Response:
        text, kind = files[request.scope["path"].removeprefix(request.scope.get("root_path", ""))]
        return Response(text, media_type=kind, headers=HEADERS)

    async def render(request: Request) -> Response:
        nonlocal waiting
        try:
            body = json.loads(await request.body())
        except (ValueError, RecursionError):
            body = None
        text = body.get("text") if isinstance(body, dict) else None
        if not isinstance(text, str):
            return _wrong(400, "text must be a string", "invalid_value")
        if len(text) > LONGEST:
            return _wrong(413, f"text is longer than {LONGEST} characters", "request_too_large")
        if waiting >= WAITING:
            return _wrong(429, "too many texts are waiting to be rendered", "queue_full")
        waiting += 1
        try:
            async with rendering:
                rendered = await asyncio.to_thread(latex_html.render, clean(text))
        finally:
            waiting -= 1
        return JSONResponse({"html": rendered})

    for path in files:
        app.add_api_route(path, file, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/render", render, methods=["POST"], include_in_schema=False)


def _wrong(status: int, message: str, code: str) -> Response:
    body = error(status, message, code=code, param="text")
    return JSONResponse(body, status, {"retry-after": "1"} if status == 429 else None)
