"""The scripted server with a batch interface: files in, files out, and faults on demand."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from aiohttp import web

from limo_ray.engines.base import EngineConfig
from tests.evaluate.server import Served

# takes the step ("file", "create", "look", "content"), and gives what comes in place of the answer
Fault = Callable[[str], web.Response | None]


class BatchServed(Served):
    """Batches end after `polls` looks. A step is done even where its answer is a fault."""

    def __init__(self, engine: EngineConfig, answers: dict[str, str]) -> None:
        super().__init__(engine, answers)
        self.fault: Fault = lambda step: None
        self.polls = 1
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.submitted: Counter[str] = Counter()  # by the request's name
        self.looks: Counter[str] = Counter()  # by batch
        self.lines: Callable[[dict[str, Any]], dict[str, Any] | None] = self.line
        self.status = "completed"

    def add_routes(self, app: web.Application) -> None:
        app.router.add_post("/v1/files", self._file)
        app.router.add_get("/v1/files/{id}/content", self._content)
        app.router.add_post("/v1/batches", self._create)
        app.router.add_get("/v1/batches", self._list)
        app.router.add_get("/v1/batches/{id}", self._look)

    def line(self, request: dict[str, Any]) -> dict[str, Any]:
        """The results' line for one of the input's."""
        self.bodies.append(request["body"])
        response = {"status_code": 200, "body": self._complete(request["body"])}
        return {"custom_id": request["custom_id"], "response": response, "error": None}

    async def _file(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        assert form["purpose"] == "batch"
        name = self._keep(form["file"].file.read())  # type: ignore[union-attr]
        return self.fault("file") or web.json_response({"id": name, "object": "file"})

    def _keep(self, content: bytes) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return name

    async def _content(self, request: web.Request) -> web.StreamResponse:
        fault = self.fault("content")
        return fault or web.Response(body=self.files[request.match_info["id"]])

    async def _create(self, request: web.Request) -> web.StreamResponse:
        made = await request.json()
        assert made["endpoint"] == "/v1/chat/completions" and made["completion_window"] == "24h"
        lines = [json.loads(line) for line in self.files[made["input_file_id"]].splitlines()]
        self.submitted.update(line["custom_id"] for line in lines)
        batch = {"id": f"batch-{len(self.batches)}", "status": "in_progress", **made}
        self.batches[batch["id"]] = batch
        return self.fault("create") or web.json_response(batch)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        """Pages of two, the newest first."""
        names = list(reversed(self.batches))
        begin = names.index(request.query["after"]) + 1 if "after" in request.query else 0
        page = [self.batches[name] for name in names[begin : begin + 2]]
        return web.json_response({"data": page, "has_more": begin + 2 < len(names)})

    async def _look(self, request: web.Request) -> web.StreamResponse:
        batch = self.batches[request.match_info["id"]]
        self.looks[batch["id"]] += 1
        if fault := self.fault("look"):
            return fault
        if batch["status"] == "in_progress" and self.looks[batch["id"]] > self.polls:
            self._end(batch)
        return web.json_response(batch)

    def _end(self, batch: dict[str, Any]) -> None:
        batch["status"] = self.status
        if self.status == "failed":
            batch["errors"] = {"data": [{"message": "no money left"}]}
            return
        requests = map(json.loads, self.files[batch["input_file_id"]].splitlines())
        lines = [line for request in requests if (line := self.lines(request)) is not None]
        good = [line for line in lines if line["error"] is None]
        for name, some in (("output", good), ("error", [e for e in lines if e not in good])):
            if some:
                text = "".join(json.dumps(line) + "\n" for line in some)
                batch[f"{name}_file_id"] = self._keep(text.encode())
