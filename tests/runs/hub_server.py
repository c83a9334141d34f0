"""A stand-in of the Hugging Face hub's HTTP interface: repositories that take commits."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_stand_in"


@dataclass
class Hub:
    url: str = ""
    requests: list[str] = field(default_factory=list)
    private: dict[str, bool] = field(default_factory=dict)
    """Repositories (datasets/org/name) and whether they are private."""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Their files."""


@contextmanager
def hub() -> Iterator[Hub]:
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            state.requests.append(f"POST {self.path}")
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._answer(401, {"error": "Invalid username or password."})
            elif self.path == "/api/repos/create":
                self._create(json.loads(body))
            elif self.path == "/api/validate-yaml":
                self._answer(200, {"errors": [], "warnings": []})
            elif "/preupload/" in self.path:
                asked = json.loads(body)["files"]
                modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                         for f in asked]  # fmt: skip
                self._answer(200, {"files": modes})
            elif "/commit/" in self.path:
                self._commit([json.loads(line) for line in body.splitlines()])
            else:
                self._answer(404, {"error": "not here"})

        def do_GET(self) -> None:
            state.requests.append(f"GET {self.path}")
            name = self._repository()
            if name not in state.private:
                self._answer(404, {"error": "Repository not found"})
                return
            found = {"id": name.partition("/")[2], "private": state.private[name], "sha": "1" * 40}
            found |= {"siblings": [], "tags": [], "downloads": 0, "likes": 0}
            self._answer(200, found)

        def _repository(self) -> str:
            return "/".join(self.path.split("?")[0].split("/")[2:5])

        def _create(self, asked: dict[str, Any]) -> None:
            name = f"{asked.get('type', 'model')}s/{asked['organization']}/{asked['name']}"
            private = asked.get("private", asked.get("visibility") == "private")
            known = name in state.private
            state.private.setdefault(name, bool(private))
            self._answer(409 if known else 200, {"url": f"{state.url}/{name}"})

        def _commit(self, lines: list[dict[str, Any]]) -> None:
            files = state.files.setdefault(self._repository(), {})
            for line in lines:
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            address = f"{state.url}/{self._repository()}/commit/{'1' * 40}"
            self._answer(200, {"success": True, "commitOid": "1" * 40, "commitUrl": address})

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
