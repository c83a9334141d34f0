"""The page at /: what is served, that nothing of a model's gets into it but as text, and its look
in a browser where there is one."""

import asyncio
import fnmatch
import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import AsyncIterator, Iterator
from html import escape
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from limo_ray.serve import page
from tests.serve import browser
from tests.serve.browser import Browser, browsing
from tests.serve.scripted import KEY, Endpoint, ask, listening

NAME = 'LIMO <img src=x onerror=alert(1)> "32B" & co'
HOSTILE = "<img src=x onerror=\"document.title='x'\"><script>document.title='x'</script>"
ROOT = Path(page.__file__).parent.parent.parent


@pytest.fixture
def app() -> Any:
    return Endpoint(page.routes(NAME)).app


def get(app: Any, *paths: str) -> list[httpx.Response]:
    return ask(app, *({"method": "GET", "url": path} for path in paths))


def test_the_page_and_its_files_with_a_strict_policy(app: Any) -> None:
    answers = get(app, "/", "/page.css", "/page.js")
    assert [a.headers["content-type"].split(";")[0] for a in answers] == [
        "text/html", "text/css", "text/javascript",
    ]  # fmt: skip
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "<img" not in answers[0].text
    assert answers[0].text.count("LIMO &lt;img src=x onerror=alert(1)&gt; &quot;32B&quot;") == 3
    assert "{{" not in answers[0].text


def test_nothing_comes_from_the_network_and_nothing_is_inline(app: Any) -> None:
    html, css, script = (answer.text for answer in get(app, "/", "/page.css", "/page.js"))
    for text in (html, css, script):
        assert not re.search(r"https?:|url\(|@import|[\"'(]//", text)
    assert not re.search(
        r"\son\w+=|\sstyle=|<style|<script(?! src=\"page.js\")", html.replace(escape(NAME), "")
    )
    assert script.count("innerHTML") == 1
    assert not re.search(r"outerHTML|insertAdjacent|document\.write|eval\(|Function\(", script)


def test_every_field_of_the_form_has_a_name_that_is_read_out(app: Any) -> None:
    [html] = [answer.text for answer in get(app, "/")]
    fields = re.findall(r"<(?:input|textarea)[^>]*>", html)
    assert len(fields) == 7
    for field in fields:
        own = re.search(r'id="(\w+)"', field)
        labelled = f'for="{own[1]}">' if own else None
        assert (
            labelled in html if labelled else re.search(rf"<label>\w[^<]+{re.escape(field)}", html)
        )


def test_the_files_are_in_the_package() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = patterns["package-data"]["limo_ray.serve"]
    for name in ("page.html", "page.css", "page.js"):
        assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def test_render_makes_maths_and_escapes_the_rest(app: Any) -> None:
    text = f"{HOSTILE} $\\frac{{1}}{{2}}$ $\\text{{{HOSTILE}}}$ \0"
    [answer] = ask(app, {"url": "/render", "json": {"text": text}})
    html = answer.json()["html"]
    assert "<mfrac>" in html
    assert not re.search(r"<(?:img|script|a\b)", html)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"text": "x" * page.LONGEST}, 200), ({"text": "x" * (page.LONGEST + 1)}, 413), ({}, 400),
        ({"text": 3}, 400), ({"text": None}, 400),
    ],
)  # fmt: skip
def test_render_is_bounded(app: Any, body: Any, status: int) -> None:
    [answer] = ask(app, {"url": "/render", "json": body})
    assert answer.status_code == status
    assert status == 200 or answer.json()["error"]["param"] == "text"
    [broken] = ask(app, {"url": "/render", "json": []})
    assert broken.status_code == 400


def test_too_many_renders_at_once_are_refused() -> None:
    app = Endpoint(page.routes(NAME), max_concurrent=1, max_queue=2).app

    async def run() -> list[int]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://page") as http:
            body = {"text": "$x^2$ " * 3000}
            answers = await asyncio.gather(*(http.post("/render", json=body) for _ in range(6)))
        return sorted(answer.status_code for answer in answers)

    assert asyncio.run(run()) == [200] * 3 + [429] * 3


def test_the_page_needs_no_key_and_render_does_and_is_limited(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(KEY)
    app = Endpoint(page.routes(NAME), keys_file=str(tmp_path / "keys"), rpm=1).app
    assert [a.status_code for a in get(app, "/", "/page.css", "/page.js")] == [200] * 3
    render = {"url": "/render", "json": {"text": "$x$"}}
    assert ask(app, render)[0].status_code == 401
    # the pieces of an answer that the page renders do not use up the key's requests
    answers = ask(app, *[render] * 11, key=KEY)
    assert [a.status_code for a in answers] == [200] * 10 + [429]
    assert answers[-1].json()["error"]["code"] == "rate_limit_exceeded"


# ---- the script


SPLITS = [
    # text, done, thinking, answer
    ("<think>\nhm</think>\n\n5", False, "hm", "5"),
    ("hm</think>5", False, "hm", "5"),  # the template opened the tag
    ("<think>hm", False, "hm", ""),
    ("<thi", False, "", ""),
    ("<b", False, "", "<b"),
    ("<think>a</think>b<think>c</think>d", True, "abc", "d"),
    ("Hello there.", True, "", "Hello there."),
    ("One.\n\nSo \\boxed{5}.", False, "", "One.\n\nSo \\boxed{5}."),
    ("One.\n\nSo \\boxed{5}.", True, "One.", "So \\boxed{5}."),
    ("Is it \\boxed{4}?\n\nNo: \\[ x\n= \\boxed{5} \\]", True,
     "Is it \\boxed{4}?", "No: \\[ x\n= \\boxed{5} \\]"),
    ("One.\n\nFinal Answer: 7", True, "One.", "Final Answer: 7"),
    ("a" * 900 + "\nthus\n$$\nx = \\boxed{1}\n$$", True,
     "a" * 900 + "\nthus", "$$\nx = \\boxed{1}\n$$"),
    ("", True, "", ""),
]  # fmt: skip


@pytest.mark.process
@pytest.mark.skipif(not shutil.which("node"), reason="no node to run the script with")
def test_thinking_is_told_from_the_answer() -> None:
    script = f"""
    const cases = JSON.parse(process.argv[1]);
    {(ROOT / "limo_ray/serve/page.js").read_text()}
    const long = "a\\n\\n".repeat(3000) + "b".repeat(5000);
    async function* body(...pieces) {{ for (const p of pieces) yield new TextEncoder().encode(p); }}
    async function read(...pieces) {{
      const out = [];
      try {{
        for await (const e of events(ReadableStream.from(body(...pieces)))) out.push(e.a);
      }} catch (error) {{ out.push(error.message); }}
      return out;
    }}
    (async () => console.log(JSON.stringify([
      cases.map(([text, done]) => split(text, done)),
      parts(long, 1000).join("") === long && parts(long, 1000).every((p) => p.length <= 1000),
      await read('data: {{"a": 1}}\\n\\nda', 'ta: {{"a":', ' 2}}\\r\\n\\r\\n',
        ': note\\ndata: [DONE]\\n\\n'),
      await read('data: {{"a": 1}}\\n\\n'),
    ])))();
    """
    done = subprocess.run(
        ["node", "-e", script, json.dumps([case[:2] for case in SPLITS])],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    splits, joined, whole, broken = json.loads(done.stdout)
    for (text, _, thinking, answer), found in zip(SPLITS, splits, strict=True):
        assert found == {"thinking": thinking, "answer": answer}, text
    assert joined
    assert whole == [1, 2]
    assert broken[0] == 1
    assert "broke off" in broken[1]


# ---- in a browser


class Chat:
    """A scripted model that streams word by word; the requests it got."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.routes = [
            Route("/v1/models", lambda _: JSONResponse({"data": []})),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
        ]

    async def chat(self, request: Request) -> StreamingResponse:
        body = request.state.json
        self.asked.append(body)
        question = body["messages"][-1]["content"]
        text = f"<think>\nFirst $\\sqrt{{2}}$. {HOSTILE}\n</think>\n\n"
        text += f"Then {HOSTILE} $\\frac{{1}}{{2}}$."

        async def events() -> AsyncIterator[str]:
            for number, word in enumerate(text.split(" ")):
                delta = {"content": f" {word}" if number else word}
                yield f"data: {json.dumps({'choices': [{'delta': delta}]})}\n\n"
                if question == "endless":
                    await asyncio.sleep(30 if number == 3 else 0)
                if question == "broken" and number == 3:
                    raise RuntimeError("broken")
            end = {"choices": [{"delta": {}, "finish_reason": "length"}]}
            yield f"data: {json.dumps(end)}\n\n"
            usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 77}}
            yield f"data: {json.dumps(usage)}\n\ndata: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, Chat]]:
    if not browser.FOUND:
        pytest.skip("no chromium and chromedriver")
    chat = Chat()
    folder = tmp_path_factory.mktemp("page")
    (folder / "keys").write_text(KEY)
    endpoint = Endpoint([*page.routes(NAME), *chat.routes], keys_file=str(folder / "keys"))
    with listening(endpoint.app) as (host, port), browsing(folder / "profile") as one:
        one.open(f"http://{host}:{port}")
        yield one, chat


ANSWERS = "document.querySelectorAll('.facts').length"


@pytest.mark.process
def test_a_chat_in_a_browser(window: tuple[Browser, Chat]) -> None:
    one, chat = window
    # without the key nothing is lost, and the field for it comes up
    one.until("document.activeElement.id === 'key'")
    one.keys("#question", "hello\ue007")
    one.until("document.querySelector('#trouble').textContent.includes('API key')")
    assert one.run("return document.querySelector('#question').value") == "hello"
    one.keys("#key", KEY)
    one.run("document.querySelector('#settings').open = true")
    one.keys("[name=max_thinking_tokens]", "50")
    one.keys("[name=temperature]", "0.6")
    one.keys("#question", "\ue007")
    one.until(f"{ANSWERS} === 1 && document.querySelector('.answer > .text mfrac')")
    assert chat.asked[-1]["max_thinking_tokens"] == 50
    assert chat.asked[-1]["temperature"] == 0.6
    assert "min_thinking_tokens" not in chat.asked[-1]
    # thinking is folded away, and its formulas are set when it is opened
    assert not one.run("return document.querySelector('.think').open")
    one.click(".think summary")
    one.until("document.querySelector('.think msqrt')")
    facts = one.run("return document.querySelector('.facts').textContent")
    assert "77 tokens" in facts
    assert "cut off" in facts
    # what the model wrote is text
    assert one.run("return document.title") == NAME
    assert one.run("return document.querySelectorAll('main img, main script').length") == 0
    assert HOSTILE in one.run("return document.querySelector('.answer').textContent")
    # the next turn has the answer without the thinking
    one.keys("#question", "again\ue007")
    one.until(f"{ANSWERS} === 2")
    turns = chat.asked[-1]["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[1]["content"].startswith("Then ")


@pytest.mark.process
def test_stop_and_a_broken_stream_in_a_browser(window: tuple[Browser, Chat]) -> None:
    one, _ = window
    one.until("document.activeElement.id === 'question' || document.activeElement.id === 'key'")
    if one.run("return document.querySelector('#key').value") == "":
        one.keys("#key", KEY)
    before = one.run(f"return {ANSWERS}")
    one.keys("#question", "endless\ue007")
    one.until(
        "!document.querySelector('#stop').hidden && document.querySelector('li:last-child .think')"
    )
    one.keys("#question", "\ue00c")
    one.until(f"{ANSWERS} === {before + 1}")
    assert "stopped" in one.run(
        "return [...document.querySelectorAll('.facts')].at(-1).textContent"
    )
    one.keys("#question", "broken\ue007")
    one.until(
        f"{ANSWERS} === {before + 2} && document.querySelector('li:last-child .callout.error')"
    )
    assert "internal error" in one.run("return document.querySelector('li:last-child').textContent")
    assert one.run("return document.querySelector('#send').hidden") is False


@pytest.mark.process
def test_the_page_fits_a_telephone_and_breaks_no_policy(window: tuple[Browser, Chat]) -> None:
    one, _ = window
    one.size(320, 640)
    wide = "document.documentElement.scrollWidth <= innerWidth"
    one.until(wide)
    said = [line for line in one.log() if "401" not in line]
    assert said == []
