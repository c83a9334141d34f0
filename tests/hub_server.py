"""A stand-in for the Hugging Face hub and for raw.githubusercontent.com, from files in memory.

    with serve({"datasets/owner/name": {"test.jsonl": b"..."}, "models/owner/name": {...}}) as hub:
        hub.url         for HF_ENDPOINT, and as a mirror of files
        hub.asked       paths that were asked for

`files` are served under their paths as they are. Repositories named in `gated` ask for a token.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlparse

COMMIT = "c0ffee" + "0" * 34

Repositories = dict[str, dict[str, bytes]]
Answer = tuple[int, bytes, dict[str, str]]


class Hub:
    def __init__(
        self, repositories: Repositories, files: dict[str, bytes], gated: tuple[str, ...]
    ) -> None:
        self.repositories = repositories
        self.files = files
        self.gated = gated
        self.asked: list[str] = []
        self.url = ""

    def answer(self, path: str, body: bytes) -> Answer:
        self.asked.append(path)
        if path == "/":
            return 200, b"", {}
        if path.strip("/") in self.files:
            return 200, self.files[path.strip("/")], {}
        parts = path.strip("/").split("/")
        if parts[0] == "api" and len(parts) >= 4:
            return self._api("/".join(parts[1:4]), parts[4:], body)
        if "resolve" in parts:
            at = parts.index("resolve")
            kind = [] if parts[0] == "datasets" else ["models"]
            return self._file("/".join(kind + parts[:at]), "/".join(parts[at + 2 :]))
        return 404, b"", {}

    def _api(self, name: str, rest: list[str], body: bytes) -> Answer:
        files = self.repositories.get(name)
        if files is None:
            return 404, b"{}", {"X-Error-Code": "RepoNotFound"}
        if rest[:1] == ["auth-check"]:
            return (403, b"{}", {"X-Error-Code": "GatedRepo"}) if name in self.gated else (
                200, b"{}", {}
            )  # fmt: skip
        if rest[:1] == ["tree"]:
            folder = "/".join(rest[2:])
            inside = [path for path in files if not folder or path.startswith(folder + "/")]
            return 200, json.dumps([_entry(path, files[path]) for path in inside]).encode(), {}
        if rest[:1] == ["paths-info"]:
            known = [path for path in json.loads(body)["paths"] if path in files]
            return 200, json.dumps([_entry(path, files[path]) for path in known]).encode(), {}
        told = {
            "id": name.partition("/")[2], "sha": COMMIT, "private": False, "disabled": False,
            "gated": "auto" if name in self.gated else False, "tags": [], "downloads": 0,
            "likes": 0, "cardData": {"license": "apache-2.0"},
            "lastModified": "2025-01-01T00:00:00.000Z",
            "siblings": [{"rfilename": path} for path in files],
        }  # fmt: skip
        return 200, json.dumps(told).encode(), {}

    def _file(self, name: str, path: str) -> Answer:
        files = self.repositories.get(name)
        if files is None or path not in files:
            code = "RepoNotFound" if files is None else "EntryNotFound"
            return 404, b"", {"X-Error-Code": code, "X-Repo-Commit": COMMIT}
        digest = hashlib.sha1(files[path]).hexdigest()
        return 200, files[path], {"X-Repo-Commit": COMMIT, "ETag": f'"{digest}"'}


def _entry(path: str, content: bytes) -> dict[str, Any]:
    oid = hashlib.sha1(content).hexdigest()
    return {"type": "file", "path": path, "size": len(content), "oid": oid}


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body, headers = hub.answer(unquote(urlparse(self.path).path), asked)
            if status == 200 and (span := self.headers.get("Range")):
                begin, _, end = span.removeprefix("bytes=").partition("-")
                part = body[int(begin) : int(end) + 1 if end else None]
                last = int(begin) + len(part) - 1
                headers = headers | {"Content-Range": f"bytes {begin}-{last}/{len(body)}"}
                status, body = 206, part
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def serve(
    repositories: Repositories, files: dict[str, bytes] | None = None, gated: tuple[str, ...] = ()
) -> Iterator[Hub]:
    hub = Hub(repositories, files or {}, gated)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
