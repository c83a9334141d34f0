"""One OpenAI-compatible server, asked with patience, over the `openai` library.

    async with ApiClient(url, ApiConfig(), connections=64) as client:
        models = await client.ask("/models", None, read_models)

Each request is tried again while the server is busy, away or faulty. The library's own retries are
off: they last seconds, and take any body under status 200 for a reply.
"""

import asyncio
import email.utils
import itertools
import json
import logging
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self, TypeVar

import httpx2
import openai

from limo_ray.core.errors import EngineError
from limo_ray.core.uris import redact
from limo_ray.engines.api_config import ApiConfig

log = logging.getLogger(__name__)
logging.getLogger("httpx2").setLevel(logging.WARNING)  # one line per request otherwise

RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}
LONGEST_REPLY = 16 << 20  # bytes; 128k tokens of escaped text are some 4 MiB
LONGEST_FILE = 4 << 30  # bytes of a batch's results
CONNECT_S = 30.0
LOG_EVERY_S = 60.0
TOO_LONG = re.compile(r"context_length_exceeded|maximum context length", re.IGNORECASE)
CONTEXT = re.compile(r"context length (?:is|of)\D{0,10}(\d+)", re.IGNORECASE)
PROMPT = re.compile(r"(\d+) (?:input tokens|in the messages|tokens from the (?:input|prompt))")

Reply = TypeVar("Reply")


class ContextFull(Exception):
    """A prompt that leaves no room for the completion; token counts where the server gives them."""

    def __init__(self, text: str) -> None:
        super().__init__(_line(text))
        context, prompt = CONTEXT.search(text), PROMPT.search(text)
        self.context = int(context[1]) if context else None
        self.prompt = int(prompt[1]) if prompt else None


class _Failed(Exception):
    """One try that failed, with the seconds that the server asks to wait."""

    def __init__(self, why: str, retry_after_s: float = 0.0) -> None:
        super().__init__(_line(why))
        self.retry_after_s = retry_after_s


class ApiClient:
    """A server at a base address such as http://host:8000/v1."""

    def __init__(self, url: str, config: ApiConfig, connections: int) -> None:
        self.shown = redact(url.rstrip("/"))
        self.config = config
        self.retries = 0
        key = config.key()
        named = {name.lower() for name in config.headers}
        bare = not key and "authorization" not in named
        self._options: Any = {"headers": {"Authorization": openai.omit}} if bare else {}
        timeout = httpx2.Timeout(config.timeout_s, connect=min(CONNECT_S, config.timeout_s))
        self._client = openai.AsyncOpenAI(
            api_key=key or "none",  # the library wants one; `_options` leave it out
            base_url=url.rstrip("/"),
            max_retries=0,
            timeout=timeout,
            default_headers=config.sent_headers(),
            http_client=openai.DefaultAsyncHttpxClient(
                timeout=timeout,
                limits=httpx2.Limits(
                    max_connections=connections, max_keepalive_connections=connections
                ),
                event_hooks={"response": [_cap]},
            ),
        )
        self._replies = 0  # so far: what has answered once is there
        self._first_tries = 0  # under way
        self._resume_at = 0.0  # no request is sent before: the server asked to wait
        self._logged_at = -LOG_EVERY_S

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.close()

    async def ask(
        self,
        path: str,
        body: dict[str, Any] | None,
        read: Callable[[Any], Reply],
        *,
        files: dict[str, Any] | None = None,
        parse: Callable[[bytes], Any] = json.loads,
        look: Callable[[], Awaitable[Reply]] | None = None,
    ) -> Reply:
        """A reply, read from its JSON.

        Args:
            path: of the route, such as /chat/completions.
            body: of a POST; None for a GET.
            read: makes the reply of parsed JSON; ValueError where it is none: then the request is
                tried again.
            files: of a form, sent with `body`.
            parse: makes JSON of the reply's bytes.
            look: asked before each further try whether an earlier one was done all the same: what
                it finds is the reply.

        Raises:
            ContextFull: the prompt leaves no room.
            EngineError: the server refuses the request as such before it has answered any, or the
                request failed `attempts` times while the server answered no other one.
        """
        replies, unanswered = self._replies, 0
        for tries in itertools.count(1):
            await self._paused()
            self._first_tries += tries == 1
            try:
                reply = await self._try(path, body, lambda raw: read(parse(raw)), files)
            except _Failed as failure:
                failed = failure
            else:
                self._replies += 1
                return reply
            finally:
                self._first_tries -= tries == 1
            # an answer to another request meanwhile: the server is there
            unanswered = unanswered + 1 if self._replies == replies else 1
            replies = self._replies
            if unanswered >= self.config.attempts and not self._first_tries:
                raise EngineError(
                    f"{self.shown}{path} failed {tries} times, the last time: {failed}"
                )
            await self._wait(tries, failed)
            if look is not None and (found := await look()):
                return found
        raise AssertionError("unreachable")

    async def _try(
        self,
        path: str,
        body: dict[str, Any] | None,
        read: Callable[[bytes], Reply],
        files: dict[str, Any] | None,
    ) -> Reply:
        try:
            async with asyncio.timeout(self.config.timeout_s):  # of a drip-fed body too
                options, raw = self._options, httpx2.Response
                if files:
                    form = {"Content-Type": "multipart/form-data"}
                    options = {"headers": {**options.get("headers", {}), **form}}
                if body is None:
                    response = await self._client.get(path, cast_to=raw, options=options)
                else:
                    response = await self._client.post(
                        path, cast_to=raw, body=body, options=options, files=files
                    )
        except openai.APIStatusError as error:
            raise self._refusal(path, error.response) from error
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            raise _Failed(f"{type(cause).__name__}: {cause}") from error
        except TimeoutError as error:
            raise _Failed(f"no whole reply in {self.config.timeout_s:g} s") from error
        try:
            return read(response.content)
        except (ValueError, RecursionError) as error:
            raise _Failed(f"{type(error).__name__}: {error}: {response.text[:200]}") from error

    def _refusal(self, path: str, response: httpx2.Response) -> Exception:
        """What an error status means."""
        why = _line(f"{response.status_code} {response.text}")
        if response.status_code == 400 and TOO_LONG.search(response.text):
            self._replies += 1
            return ContextFull(response.text)
        # a server that has answered before may be restarting behind a proxy
        if response.status_code in RETRIED or self._replies:
            return _Failed(why, retry_after(response.headers.get("retry-after")))
        return EngineError(f"{self.shown}{path} refused the request: {why}{_hint(response)}")

    async def _wait(self, tries: int, failed: _Failed) -> None:
        """Sleeps before the next try; a Retry-After holds back all other requests too."""
        longest = self.config.longest_wait_s
        wait = min(longest, self.config.wait_s * 2 ** min(tries - 1, 32))
        asked = min(failed.retry_after_s, 10 * longest)
        self._resume_at = max(self._resume_at, time.monotonic() + asked)
        self.retries += 1
        if time.monotonic() - self._logged_at > LOG_EVERY_S:
            self._logged_at = time.monotonic()
            log.warning(
                "%s: %s; trying again in %.0f s (%d retries so far)",
                self.shown, failed, max(wait, asked), self.retries,
            )  # fmt: skip
        await asyncio.sleep(max(wait * random.uniform(0.75, 1.25), asked))

    async def _paused(self) -> None:
        while (left := self._resume_at - time.monotonic()) > 0:
            await asyncio.sleep(left + self.config.wait_s * random.random())


async def _cap(response: httpx2.Response) -> None:
    whole_file = response.request.url.path.endswith("/content")
    response.stream = _Capped(response.stream, LONGEST_FILE if whole_file else LONGEST_REPLY)


class _Capped(httpx2.AsyncByteStream):
    """A body that must end within so many bytes."""

    def __init__(self, stream: Any, longest: int) -> None:
        self._stream = stream
        self._longest = longest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > self._longest:
                raise httpx2.ReadError(f"the reply is longer than {self._longest >> 20} MiB")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


def _hint(response: httpx2.Response) -> str:
    fields = ("top_k", "min_p", "repetition_penalty")
    if response.status_code in (400, 422) and any(name in response.text for name in fields):
        return " (for servers without vLLM's own fields: client.extensions=false)"
    if response.status_code in (401, 403):
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


def _line(text: str) -> str:
    """A message that may be a page, as one line of at most 500 characters."""
    return " ".join(text[:2000].split())[:500]
