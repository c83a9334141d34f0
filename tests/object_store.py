"""Real servers of the S3 and GCS protocols, in processes of their own, which can be made to fail.

python -m tests.object_store s3|gcs      prints its port
"""

import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

KEY, SECRET = "AKIAEXAMPLE", "wJalr/XUtn+SECRET"
BUCKET = "limo"
CONTROL = "/-control"


@contextmanager
def _served(kind: str) -> Iterator[str]:
    """host:port of a server."""
    command = [sys.executable, "-m", "tests.object_store", kind]
    root = Path(__file__).parent.parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        yield f"127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


@contextmanager
def serve_gcs() -> Iterator[str]:
    """The URI of a bucket on a GCS server, with {} in place of the path."""
    with _served("gcs") as address:
        yield f"gs://anonymous@{BUCKET}/{{}}?scheme=http&endpoint_override={address}"


@contextmanager
def serve_s3() -> Iterator["S3"]:
    with _served("s3") as address:
        yield S3(address)


class S3:
    """A client's side of an S3 server with one bucket."""

    def __init__(self, address: str) -> None:
        self.address = address
        pafs.S3FileSystem(
            access_key=KEY, secret_key=SECRET, scheme="http", endpoint_override=address,
            region="us-east-1", allow_bucket_creation=True,
        ).create_dir(BUCKET)  # fmt: skip

    def uri(self, path: str = "") -> str:
        """A URI in the bucket, with credentials before the @ and the endpoint in its query."""
        who = f"{KEY}:{SECRET.replace('/', '%2F').replace('+', '%2B')}"
        return f"s3://{who}@{BUCKET}/{path}?scheme=http&endpoint_override={self.address}"

    def control(self, **orders: Any) -> dict[str, Any]:
        """Gives orders (see Faulty), all others forgotten; returns what happened until then."""
        url = f"http://{self.address}{CONTROL}"
        with urllib.request.urlopen(url, json.dumps(orders).encode(), timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        return found


class Faulty:
    """An S3 server in front of which requests fail to order.

    fail_share: the share of all requests that are answered 500 or 503;
    fails: a regular expression for requests ("METHOD /path?query") that are;
    kill: a process, to be killed by the first request that `at` matches.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self.random = random.Random(0)
        self.orders: dict[str, Any] = {}
        self.seen: dict[str, Any] = {"requests": [], "failed": 0}

    def __call__(self, environ: dict[str, Any], start: Any) -> Any:
        path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
        asked = f"{environ['REQUEST_METHOD']} {path}" + (f"?{query}" if query else "")
        if path == CONTROL:
            length = int(environ["CONTENT_LENGTH"])
            self.orders = json.loads(environ["wsgi.input"].read(length))
            seen, self.seen = self.seen, {"requests": [], "failed": 0}
            start("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(seen).encode()]
        if "at" in self.orders and re.search(self.orders["at"], asked):
            os.kill(self.orders.pop("kill"), signal.SIGKILL)
            del self.orders["at"]
        fails = self.orders.get("fails")
        share = self.orders.get("fail_share", 0.0)
        if (fails and re.search(fails, asked)) or self.random.random() < share:
            self.seen["failed"] += 1
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            code = self.random.choice(["500 Internal Server Error", "503 Slow Down"])
            start(code, [("Content-Type", "text/plain"), ("Content-Length", "4")])
            return [b"busy"]
        self.seen["requests"].append(asked)
        return self.app(environ, start)


def s3() -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app = Faulty(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(server.server_port, flush=True)
    server.serve_forever()


class Quiet(ThreadingHTTPServer):
    """The emulator's own server answers one request after the other; clients open several."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that has enough hangs up."""


def gcs() -> None:
    from gcp_storage_emulator.handlers import buckets
    from gcp_storage_emulator.server import RequestHandler, Storage

    storage = Storage(use_memory_fs=True)
    buckets.create_bucket(BUCKET, storage)
    server = Quiet(("127.0.0.1", 0), partial(RequestHandler, storage))
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    {"s3": s3, "gcs": gcs}[sys.argv[1]]()
