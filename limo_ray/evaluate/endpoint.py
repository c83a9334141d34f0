"""An OpenAI-compatible server as a source of completions, asked with patience.

    async with Endpoint("http://localhost:8000/v1", "", ClientConfig()) as endpoint:
        completion = await endpoint.complete(messages, sampling, seed=None)

The server applies the model's own chat template to the messages that `limo_ray.core.prompts` makes,
as our engine does, so that prompts are the same. One request is one attempt: what came back is
logged, and only what is missing is asked for again. No Ray.
"""

import asyncio
import email.utils
import logging
import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from limo_ray.core.errors import EngineError
from limo_ray.engines.base import Completion, SamplingConfig

log = logging.getLogger(__name__)
logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of every request

RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}
TOO_LONG = re.compile(r"context_length_exceeded|maximum context length", re.IGNORECASE)
CONTEXT = re.compile(r"context length (?:is|of)\D{0,10}(\d+)", re.IGNORECASE)
PROMPT = re.compile(r"(\d+) (?:input tokens|in the messages|tokens from the (?:input|prompt))")
HOPELESS = 3  # requests in a row given up, before any other is tried


@dataclass(kw_only=True, slots=True)
class ClientConfig:
    concurrency: int = 64
    """Requests under way at once."""
    timeout_s: float = 3600.0
    """Seconds that one completion may take; 32,768 tokens at 20 tokens/s are half an hour."""
    attempts: int = 6
    """Tries of one request, before it is given up."""
    wait_s: float = 1.0
    """Seconds before the second try; doubled before each further one, within `longest_wait_s`."""
    longest_wait_s: float = 60.0
    """A server's Retry-After counts up to ten times this."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the API key; nothing is sent when it is not set."""
    key_file: str = ""
    """File that holds the API key; goes before the variable."""
    identity: str = ""
    """What tells the weights behind the endpoint from others: a model folder or hub id (its hash is
    taken), or any word. Without it attempts are logged under the address and what the server tells
    of its model: start anew (another store) when other weights move in under the same name."""
    extensions: bool = True
    """Send vLLM's own fields (top_k, min_p, repetition_penalty), so that defaults that the server
    takes from the model do not apply. false for servers that refuse them."""
    seeds: bool = False
    """Send a seed with each request. vLLM on a CPU cannot take them in large batches."""
    headers: dict[str, str] = field(default_factory=dict)
    """Further headers of every request."""
    body: dict[str, Any] = field(default_factory=dict)
    """Further fields of every request, such as a thinking budget; part of the log's name."""

    def check(self) -> None:
        for name in ("concurrency", "attempts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} must be at least 1")
        for name in ("timeout_s", "wait_s", "longest_wait_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} must be positive")

    def key(self) -> str:
        """The API key, or "". ValueError for a file that cannot be read."""
        if not self.key_file:
            return os.environ.get(self.key_variable, "").strip()
        try:
            return Path(self.key_file).expanduser().read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"client.key_file: {self.key_file!r}: {error}") from error


class EndpointError(EngineError):
    """A server that refuses, or that does not answer: the message says which and why."""


class GivenUp(EndpointError):
    """One request that failed every time; others may succeed."""


class Endpoint:
    """One server and one of its models."""

    def __init__(self, url: str, model: str, config: ClientConfig) -> None:
        self.url = url.rstrip("/")
        self.model = model
        self.config = config
        self.about: dict[str, Any] = {}
        """What the server tells of the model in its list."""
        self.retries = 0
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        key = self.config.key()
        headers = dict(self.config.headers) | ({"Authorization": f"Bearer {key}"} if key else {})
        limits = httpx.Limits(
            max_connections=self.config.concurrency,
            max_keepalive_connections=self.config.concurrency,
        )
        timeout = httpx.Timeout(self.config.timeout_s, connect=min(30.0, self.config.timeout_s))
        self._client = httpx.AsyncClient(headers=headers, limits=limits, timeout=timeout)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def open(self) -> None:
        """Finds the model in the server's list.

        Raises EndpointError for a server that cannot be had, or that has no such model.
        """
        reply = await self._ask("GET", "/models", None)
        try:
            listed = {one["id"]: one for one in reply["data"]}
        except (KeyError, TypeError) as error:
            raise EndpointError(
                f"{self.url}/models is no list of models: {repr(reply)[:200]}"
            ) from error
        if not self.model and len(listed) == 1:
            self.model = next(iter(listed))
        if self.model not in listed:
            raise EndpointError(
                f"model {self.model!r} is none of those at {self.url} ({', '.join(listed)})"
            )
        changing = ("created", "permission")
        self.about = {k: v for k, v in listed[self.model].items() if k not in changing}

    def check_length(self, sampling: SamplingConfig) -> None:
        """ValueError when the server tells of a context that completions cannot fit."""
        longest = self.about.get("max_model_len")
        if isinstance(longest, int) and sampling.max_tokens > longest:
            raise ValueError(
                f"sampling.max_tokens: {sampling.max_tokens} is more than the context of "
                f"{self.model} at {self.url} ({longest})"
            )

    async def complete(
        self, messages: list[dict[str, str]], sampling: SamplingConfig, seed: int | None = None
    ) -> Completion:
        """One completion of a chat.

        A prompt that fills the context comes back as an empty one of finish reason "length", as
        from our engine. Raises GivenUp when every try failed, EndpointError when the server
        refuses the request as such.
        """
        body = self._body(messages, sampling, seed)
        try:
            reply = await self._ask("POST", "/chat/completions", body)
        except _TooLong as error:
            room = (error.context or 0) - (error.prompt or 0)
            if error.prompt is None or error.context is None:
                raise EndpointError(f"{self.url}: {error}") from error
            if room < 1:
                return Completion(
                    text="", finish_reason="length", prompt_tokens=error.prompt, completion_tokens=0
                )
            reply = await self._ask("POST", "/chat/completions", body | {"max_tokens": room})
        return _completion(reply)

    def _body(
        self, messages: list[dict[str, str]], sampling: SamplingConfig, seed: int | None
    ) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if seed is not None:
            body["seed"] = seed
        if self.config.extensions:
            body |= {"top_k": sampling.top_k, "min_p": sampling.min_p, "repetition_penalty": 1.0}
        if sampling.loop_count:
            body["repetition_detection"] = {
                "max_pattern_size": sampling.loop_pattern, "min_count": sampling.loop_count,
            }  # fmt: skip
        return body | dict(self.config.body)

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        """A reply's JSON, tried again while the server is busy or away."""
        assert self._client is not None
        why = ""
        for attempt in range(self.config.attempts):
            wait = min(self.config.longest_wait_s, self.config.wait_s * 2**attempt)
            try:
                reply = await self._client.request(method, self.url + path, json=body)
                if reply.status_code == 200:
                    return reply.json()
                why = f"{reply.status_code} {reply.text[:500]}"
                if reply.status_code == 400 and TOO_LONG.search(reply.text):
                    raise _TooLong(reply.text)
                if reply.status_code not in RETRIED:
                    raise EndpointError(
                        f"{self.url}{path} refused the request: {why}{_hint(reply)}"
                    )
                asked = retry_after(reply.headers.get("retry-after"))
                wait = min(max(wait, asked), 10 * self.config.longest_wait_s)
            except (httpx.TransportError, ValueError) as error:  # no connection, or no JSON
                why = f"{type(error).__name__}: {error}"
            if attempt + 1 < self.config.attempts:
                self.retries += 1
                await asyncio.sleep(wait * random.uniform(0.75, 1.25))
        raise GivenUp(f"{self.url}{path} failed {self.config.attempts} times, the last time: {why}")


class _TooLong(Exception):
    """A prompt that does not fit, with what the server tells of it."""

    def __init__(self, text: str) -> None:
        super().__init__(text[:500])
        context, prompt = CONTEXT.search(text), PROMPT.search(text)
        self.context = int(context[1]) if context else None
        self.prompt = int(prompt[1]) if prompt else None


def _hint(reply: httpx.Response) -> str:
    fields = ("top_k", "min_p", "repetition_penalty")
    if reply.status_code in (400, 422) and any(name in reply.text for name in fields):
        return " (for servers without vLLM's own fields: client.extensions=false)"
    if reply.status_code in (401, 403):
        return " (the key is taken from client.key_file or the variable client.key_variable)"
    return ""


def retry_after(value: str | None) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date; 0 for none."""
    if not value:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, when.timestamp() - time.time())


def _completion(reply: Any) -> Completion:
    """A chat completion; thinking that the server took out is put back where it was."""
    try:
        choice, usage = reply["choices"][0], reply.get("usage") or {}
        message = choice["message"]
        text = message.get("content") or ""
        thought = message.get("reasoning") or message.get("reasoning_content")
        reason = choice.get("finish_reason") or "stop"
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise EndpointError(f"not a chat completion: {repr(reply)[:300]}") from error
    if thought:
        # no closing tag where thinking ran into the limit
        text = f"<think>\n{thought}\n</think>\n\n{text}" if text else f"<think>\n{thought}"
    return Completion(
        text=text,
        finish_reason={"repetition": "loop"}.get(reason, reason),
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
    )


async def all_of(
    jobs: list[Any], work: Callable[[Any], Any], concurrency: int
) -> list[tuple[Any, GivenUp]]:
    """Runs `work` on every job, so many at once; returns those that were given up.

    Stops with EndpointError when HOPELESS in a row were given up and nothing succeeded since: the
    server is away, and the rest would only take its time. Any other error ends all jobs.
    """
    waiting = iter(jobs)
    failed: list[tuple[Any, GivenUp]] = []
    row = 0

    async def worker() -> None:
        nonlocal row
        for job in waiting:
            try:
                await work(job)
                row = 0
            except GivenUp as error:
                failed.append((job, error))
                row += 1
                if row >= HOPELESS:
                    raise EndpointError(f"{error}; the same command goes on from here") from error

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(jobs))):
                group.create_task(worker())
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
    return failed
