"""Chat completions by a provider's batch interface: files in, files out, within a day, cheaper.

    <folder>/<key>.json     one batch: the names of its requests, and its own id at the server

What a batch will hold is written before anything is sent, and the server keeps the batch's key as
metadata. So a job that was killed at any moment finds its batches again; none is submitted twice.
Results are fetched when a request that a batch holds is asked for again: the attempt log has the
others.
"""

import asyncio
import json
import secrets
import time
from collections import deque
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from limo_ray.core.errors import EngineError
from limo_ray.engines.api_client import TOO_LONG, ApiClient, ContextFull
from limo_ray.engines.api_config import BatchConfig
from limo_ray.engines.base import Completion
from limo_ray.engines.chat_completion import read_completion
from limo_ray.storage.store import Store

METADATA = "limo_ray"  # key of a batch's metadata at the server
ENDED = ("completed", "expired", "cancelled", "failed")
REFUSED = (400, 401, 403, 404, 422)
LISTED = 100  # batches in one page of the server's list


@dataclass(kw_only=True, slots=True)
class Batch:
    """One batch: intended as long as it has no id, then submitted."""

    key: str
    requests: list[str]
    """Their names."""
    at: float
    """When it was intended, in seconds since the epoch."""
    id: str = ""
    """At the server."""


class Batches:
    """The batches of one model at one server. All methods run in one event loop."""

    def __init__(self, client: ApiClient, config: BatchConfig, folder: Store) -> None:
        self.client = client
        self.config = config
        self.folder = folder
        self._batches: dict[str, Batch] = {}  # by key
        self._batch_of: dict[str, str] = {}  # by request: the key of its latest batch
        self._waiting: dict[str, tuple[asyncio.Future[Any], dict[str, Any]]] = {}  # by request
        self._replies: dict[str, Any] = {}  # by request: those that nobody has asked for yet
        self._new: deque[str] = deque()  # requests that no batch holds
        self._asked_at = 0.0
        self._tasks: dict[str, asyncio.Task[None]] = {}  # by key of a batch; "" collects
        self._loaded = False

    async def ask(self, request: str, body: dict[str, Any]) -> Completion:
        """One completion.

        Args:
            request: names the body and the attempt, in at most 64 characters. While a batch holds a
                name it is not submitted again.
            body: of the chat completion.

        Raises:
            ContextFull: the prompt leaves no room.
            EngineError: the server refuses the request or the batch, or `tries` batches had no
                answer.
        """
        failed = ""
        for _ in range(self.config.tries):
            reply = await self._reply(request, body)
            try:
                return _completion(reply, self.client.shown)
            except ValueError as error:
                failed = str(error)
                self._batch_of.pop(request, None)  # a further batch may hold it
        shown, tries = self.client.shown, self.config.tries
        raise EngineError(f"{shown}: no answer in {tries} batches, the last time: {failed}")

    def shutdown(self) -> None:
        """Follows no batch any more; they go on at the server."""
        for task in self._tasks.values():
            task.cancel()

    async def _reply(self, request: str, body: dict[str, Any]) -> Any:
        """What a batch's results hold for a request; None if nothing."""
        if not self._loaded:
            await self._load()
        if request in self._replies:
            return self._replies.pop(request)
        future = asyncio.get_running_loop().create_future()
        self._waiting[request] = future, body
        self._place(request)
        try:
            return await future
        finally:
            if self._waiting.get(request, (None,))[0] is future:
                del self._waiting[request]

    def _place(self, request: str) -> None:
        """Follows the batch that holds a request, or leaves it to the next one."""
        if key := self._batch_of.get(request):
            self._start(key, partial(self._follow, self._batches[key]))
        else:
            self._new.append(request)
            self._asked_at = time.monotonic()
            self._start("", self._collect)

    def _start(self, key: str, job: Any) -> None:
        """Runs a job, unless one with this key runs. Its error is that of all who wait for it."""

        async def run() -> None:
            try:
                await job()
            except EngineError as error:
                for request in self._batches[key].requests if key else list(self._new):
                    self._resolve(request, error)
            finally:
                self._tasks.pop(key, None)

        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(run())

    def _resolve(self, request: str, reply: Any) -> None:
        future, _ = self._waiting.get(request, (None, None))
        if future is None:
            if not isinstance(reply, Exception):
                self._replies[request] = reply
        elif not future.done():
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    async def _load(self) -> None:
        """Reads the batches that others noted, this process's predecessors among them."""
        found = []
        for name in await asyncio.to_thread(self.folder.files, "", ".json"):
            if name.removesuffix(".json") not in self._batches:
                facts = await asyncio.to_thread(self.folder.read_json, name)
                found += [Batch(**facts)] if facts else []
        for batch in sorted(found, key=lambda batch: batch.at):
            self._batches[batch.key] = batch
            self._batch_of |= dict.fromkeys(batch.requests, batch.key)
        self._loaded = True

    async def _note(self, batch: Batch) -> None:
        await asyncio.to_thread(self.folder.write_json, f"{batch.key}.json", asdict(batch))

    async def _collect(self) -> None:
        """Makes batches of new requests, once no more of them come."""
        while self._new:
            quiet = time.monotonic() - self._asked_at
            if quiet < self.config.collect_s and len(self._new) < self.config.requests:
                await asyncio.sleep(self.config.collect_s - quiet)
                continue
            await self._load()  # another process may have had one of these meanwhile
            chosen: dict[str, dict[str, Any]] = {}
            while self._new and len(chosen) < self.config.requests:
                request = self._new.popleft()
                if request in self._batch_of:
                    self._place(request)
                elif request in self._waiting:
                    chosen[request] = self._waiting[request][1]
            if chosen:
                batch = Batch(key=secrets.token_hex(8), requests=list(chosen), at=time.time())
                await self._note(batch)
                self._batches[batch.key] = batch
                self._batch_of |= dict.fromkeys(chosen, batch.key)
                self._start(batch.key, partial(self._submit, batch, chosen))

    async def _submit(self, batch: Batch, bodies: dict[str, dict[str, Any]]) -> None:
        """Sends a batch whose intent is noted, and follows it."""
        route = "/v1/chat/completions"
        lines = [
            {"custom_id": request, "method": "POST", "url": route, "body": body}
            for request, body in bodies.items()
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        file = (f"{batch.key}.jsonl", text.encode(), "application/jsonl")
        input_file = await self.client.ask(
            "/files", {"purpose": "batch"}, _read_id, files={"file": file}
        )
        settings = {
            "input_file_id": input_file, "endpoint": route, "metadata": {METADATA: batch.key},
            "completion_window": self.config.window,
        }  # fmt: skip
        batch.id = await self.client.ask(
            "/batches", settings, _read_id, look=partial(self._find, batch)
        )
        await self._note(batch)
        await self._follow(batch)

    async def _find(self, batch: Batch) -> str:
        """A batch's id in the server's list, or ""; one that is just being made has time to come.

        The list begins with the newest.
        """
        await asyncio.sleep(self.config.settle_s)
        after = ""
        while True:
            page = await self.client.ask(f"/batches?limit={LISTED}{after}", None, _read_list)
            for each in page["data"]:
                if (each.get("metadata") or {}).get(METADATA) == batch.key:
                    return str(each["id"])
            if not page.get("has_more") or not page["data"]:
                return ""
            after = f"&after={page['data'][-1]['id']}"

    async def _follow(self, batch: Batch) -> None:
        """Waits for a batch's end and hands out what it holds."""
        if not batch.id:
            batch.id = await self._find(batch)
            if not batch.id:  # it never came to the server
                await self._forget(batch)
                for request in batch.requests:
                    if request in self._waiting:
                        self._place(request)
                return
            await self._note(batch)
        while (facts := await self._look(batch))["status"] not in ENDED:
            await asyncio.sleep(self.config.poll_s)
        if facts["status"] == "failed":
            await self._forget(batch)
            why = json.dumps(facts.get("errors"))[:300]
            raise EngineError(f"{self.client.shown}: batch {batch.id} failed: {why}")
        replies: dict[str, Any] = {}
        for name in ("error_file_id", "output_file_id"):
            if file := facts.get(name):
                replies |= await self.client.ask(
                    f"/files/{file}/content", None, _by_request, parse=_lines
                )
        for request in batch.requests:
            self._resolve(request, replies.get(request))

    async def _look(self, batch: Batch) -> dict[str, Any]:
        return await self.client.ask(f"/batches/{batch.id}", None, _read_batch)

    async def _forget(self, batch: Batch) -> None:
        """A batch that the server does not have, or refused: others may hold its requests."""
        await asyncio.to_thread(self.folder.delete, f"{batch.key}.json")
        for request in batch.requests:
            if self._batch_of.get(request) == batch.key:
                del self._batch_of[request]


def _completion(reply: Any, shown: str) -> Completion:
    """What a line of a batch's results holds. ValueError where it has no answer."""
    if not isinstance(reply, dict):
        raise ValueError("the results lack the request")
    response = reply.get("response")
    response = response if isinstance(response, dict) else {}
    status, body = response.get("status_code"), response.get("body")
    if status == 200:
        return read_completion(body)
    why = json.dumps(reply.get("error") or body)
    if status == 400 and TOO_LONG.search(why):
        raise ContextFull(why)
    if status in REFUSED:
        raise EngineError(f"{shown} refused the request: {status} {why[:300]}")
    raise ValueError(f"{status} {why[:300]}")


def _read_id(reply: Any) -> str:
    if not isinstance(reply, dict) or not isinstance(reply.get("id"), str):
        raise ValueError("no id")
    return str(reply["id"])


def _read_batch(reply: Any) -> dict[str, Any]:
    if not isinstance(reply, dict) or not isinstance(reply.get("status"), str):
        raise ValueError("not a batch")
    return reply


def _read_list(reply: Any) -> dict[str, Any]:
    data = reply.get("data") if isinstance(reply, dict) else None
    if not isinstance(data, list) or not all(isinstance(each, dict) for each in data):
        raise ValueError("not a list of batches")
    return dict(reply)


def _lines(content: bytes) -> list[Any]:
    """JSONL."""
    return [json.loads(line) for line in content.splitlines() if line.strip()]


def _by_request(lines: Any) -> dict[str, Any]:
    """Lines of a results file by the request's name."""
    try:
        return {line["custom_id"]: line for line in lines}
    except (KeyError, TypeError) as error:
        raise ValueError("not the results of a batch") from error
