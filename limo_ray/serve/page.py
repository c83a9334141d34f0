"""The page at /: a chat with the model, its thinking apart from its answer, maths rendered.

    page.routes("limo-32b")     /, /page.css, /page.js and POST /render

It works without a network: nothing is fetched but from the endpoint itself, and the page's policy
lets the browser refuse anything else. Formulas become MathML on the server, by
limo_ray/report/latex_html.py, which escapes all that it does not know; the browser puts nothing
else into the page but as text.
"""

import asyncio
import html
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from limo_ray.report import latex_html
from limo_ray.report.templates import clean
from limo_ray.serve.errors import ApiError, invalid

FOLDER = Path(__file__).parent
LONGEST = 32_768  # characters to render at once; the page sends a longer text in pieces
AT_ONCE = 2  # texts being rendered; they share the interpreter with the streams, others wait

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types rendered",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def routes(model_name: str) -> list[Route]:
    """The page and what it needs.

    Args:
        model_name: as the page shows it and sends it to /v1/chat/completions.
    """
    name = html.escape(clean(model_name))
    page = (FOLDER / "page.html").read_text(encoding="utf-8").replace("{{ model }}", name)
    files = {
        "/": (page, "text/html"),
        "/page.css": ((FOLDER / "page.css").read_text(encoding="utf-8"), "text/css"),
        "/page.js": ((FOLDER / "page.js").read_text(encoding="utf-8"), "text/javascript"),
    }
    rendering = asyncio.Semaphore(AT_ONCE)

    async def file(request: Request) -> Response:
        text, kind = files[request.state.context.path]
        return Response(text, media_type=kind, headers=HEADERS)

    async def render(request: Request) -> Response:
        text = request.state.json.get("text")
        if not isinstance(text, str):
            raise invalid("text must be a string", "text")
        if len(text) > LONGEST:
            message = f"text is longer than {LONGEST} characters"
            raise ApiError(413, message, code="request_too_large", param="text")
        async with rendering:
            rendered = await asyncio.to_thread(latex_html.render, clean(text))
        return JSONResponse({"html": rendered})

    return [*(Route(path, file) for path in files), Route("/render", render, methods=["POST"])]
