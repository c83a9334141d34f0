"""The engine behind an OpenAI-compatible server: another vLLM, or a provider's API.

    engine = ApiEngine(EngineConfig(kind="api", url="http://host:8000/v1", model="m", device="cpu"))

The server applies the model's own chat template to the messages, as our engine does, so that
prompts are the same. One request is one attempt. `max_num_seqs` is the number of requests at once,
of those in batches too (limo_ray/engines/api_batch.py).
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from limo_ray.core.errors import EngineError
from limo_ray.core.records import fingerprint
from limo_ray.engines.api_batch import Batches
from limo_ray.engines.api_client import ApiClient, ContextFull
from limo_ray.engines.base import Completion, EngineConfig, Request
from limo_ray.engines.chat_completion import encodable, read_completion
from limo_ray.engines.continuation import request_seed
from limo_ray.storage import model_files
from limo_ray.storage.store import Store

# The fields of a server's model list that say which model it is.
IDENTIFYING = ("id", "root", "parent", "owned_by", "max_model_len", "revision", "fingerprint")
CHANGING = ("created", "permission")  # differ between two looks at the same model


class ApiEngine:
    """Completions of one model at one server."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self._client: ApiClient | None = None
        self._batches: Batches | None = None
        self._slots = asyncio.Semaphore(config.max_num_seqs)
        self._open: set[asyncio.Task[Completion]] = set()
        self._over = False

    async def start(self) -> None:
        """Makes the client; the server is asked first by `generate`. EngineError without a key."""
        try:
            self._client = ApiClient(self.config.url, self.config.api, self.config.max_num_seqs)
        except ValueError as error:
            raise EngineError(str(error)) from error
        batch = self.config.api.batch
        if batch.requests:
            self._batches = Batches(self._client, batch, Store(batch.folder))

    def render(self, messages: list[dict[str, str]]) -> list[dict[str, str]]:
        """The messages as they are sent: lone surrogates cannot be encoded."""
        return [{name: encodable(text) for name, text in turn.items()} for turn in messages]

    async def generate(self, request: Request) -> Completion:
        """One completion; cancelling aborts the request.

        A prompt that fills the context comes back as an empty completion of finish reason "length",
        as from vLLM. Raises EngineError when the server refuses the request, or is away for longer
        than the config's patience.
        """
        if self._over:
            return _cut()
        asked = asyncio.create_task(self._complete(request))
        self._open.add(asked)
        try:
            await asyncio.wait([asked])
        finally:
            asked.cancel()
            self._open.discard(asked)
        return _cut() if asked.cancelled() else asked.result()

    async def cut_off(self) -> None:
        """Aborts all open requests: a server gives nothing for a part of a completion."""
        self._over = True
        for asked in self._open:
            asked.cancel()

    def shutdown(self) -> None:
        """Open requests may end, and connections end with the last of them."""
        if self._batches is not None:
            self._batches.shutdown()

    async def _complete(self, request: Request) -> Completion:
        assert self._client is not None
        body = self._body(request)
        async with self._slots:
            try:
                return await self._ask(request, body)
            except ContextFull as error:
                if error.prompt is None or error.context is None:
                    raise EngineError(f"{self._client.shown}: {error}") from error
                prompt, room = error.prompt, error.context - error.prompt
            if room < 1:
                return Completion(
                    text="", finish_reason="length", prompt_tokens=prompt, completion_tokens=0
                )
            try:
                return await self._ask(request, body | {"max_tokens": room})
            except ContextFull as error:
                raise EngineError(f"{self._client.shown}: {error}") from error

    async def _ask(self, request: Request, body: dict[str, Any]) -> Completion:
        """A completion, at once or by a batch."""
        assert self._client is not None
        if self._batches is None:
            return await self._client.ask("/chat/completions", body, read_completion)
        name = f"{request.problem.id}-{request.index}-{fingerprint(body)}"
        return await self._batches.ask(name, body)

    def _body(self, request: Request) -> dict[str, Any]:
        sampling, api = request.sampling, self.config.api
        body: dict[str, Any] = {
            "model": self.config.model,
            "messages": request.prompt,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if api.seeds:
            body["seed"] = request_seed(self.config.seed, request)
        if api.extensions:
            body |= {"top_k": sampling.top_k, "min_p": sampling.min_p, "repetition_penalty": 1.0}
        if sampling.loop_count:
            body["repetition_detection"] = {
                "max_pattern_size": sampling.loop_pattern, "min_count": sampling.loop_count,
            }  # fmt: skip
        return body | dict(api.body)


def find_model(config: EngineConfig) -> dict[str, Any]:
    """What the server says of the model in its list; of its only one where none is named.

    Raises EngineError for a server that cannot be had or has no such model, ValueError for a key
    that cannot be read.
    """
    listed = asyncio.run(_models(config))
    names = [str(about["id"]) for about in listed]
    name = names[0] if not config.model and len(names) == 1 else config.model
    if name not in names:
        shown = ApiClient(config.url, config.api, 1).shown
        raise EngineError(f"model {name!r} is none of those at {shown} ({', '.join(names)})")
    about = listed[names.index(name)]
    return {key: value for key, value in about.items() if key not in CHANGING}


async def _models(config: EngineConfig) -> list[dict[str, Any]]:
    async with ApiClient(config.url, config.api, 1) as client:
        return await client.ask("/models", None, _read_models)


def _read_models(reply: Any) -> list[dict[str, Any]]:
    try:
        listed = [dict(about) for about in reply["data"]]
        assert all(isinstance(about["id"], str) for about in listed)
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise ValueError("not a list of models") from error
    return listed


def identity(config: EngineConfig, about: Mapping[str, Any]) -> str:
    """What names the weights behind a server, for a sampling fingerprint.

    Covers what else of the requests can change what is sampled. The config's word for the weights
    goes before the server's address and what it says of the model (`about`, of `find_model`).
    """
    api = config.api
    weights = [config.url, {key: about[key] for key in IDENTIFYING if key in about}]
    if api.identity:
        is_model = (
            api.identity == model_files.PACKAGED
            or model_files.is_local(api.identity)
            or api.identity.count("/") == 1
        )
        weights = [model_files.identity(api.identity) if is_model else api.identity]
    requests = [api.extensions, dict(api.body)]
    return json.dumps(["endpoint", about["id"], requests, *weights], sort_keys=True)


def _cut() -> Completion:
    return Completion(text="", finish_reason="cut", prompt_tokens=0, completion_tokens=0)
