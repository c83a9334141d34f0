"""An optional judge for free-form answers: a language model behind an OpenAI-compatible endpoint.

    judge = Judge(JudgeConfig(url="http://localhost:8000/v1", model="Qwen2.5-32B-Instruct"))
    judge.judge(question, answer, extracted)          -> Verdict
    await judge.ajudge(question, answer, extracted)

Off unless a config names one; a `Verifier` then asks it where the gold answer is words and the
rules say that another answer is not the same. Its reply must be one word: "INCORRECT" is not
"correct", and anything else is no verdict. Verdicts are cached. An endpoint that fails, or replies
with what is no chat completion, is asked again for `patience_s`; then that one answer is an ERROR.
"""

import asyncio
import json
import logging
import os
import re
import ssl
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import httpx

from limo_ray.core.errors import VerificationError
from limo_ray.core.records import Verdict

PROMPT = """You compare a student's final answer with the reference answer to a problem.
They agree when they say the same thing: the same value, in whatever form or notation. Do not \
solve the problem, do not judge how well the answer is put.

Problem: {question}

Reference answer: {answer}

Student's answer: {extracted}

Reply with one word: CORRECT if they agree, INCORRECT if they do not."""

_LONGEST = 4_000  # characters of each part of the prompt
_WORD = re.compile(r"[\s*\"'`.]*(correct|incorrect)[\s*\"'`.!]*", re.IGNORECASE)
_COMMAND = re.compile(r"\\(?:begin|end|operatorname) ?\{[^{}]*\}|\\[a-zA-Z]+")
_SPOKEN = re.compile(r"(?!(?:sin|cos|tan|log|exp|sqrt)\b)[^\W\d_]{3,}")
_RETRIED = {408, 409, 425, 429}  # of 4xx
_MAX_BODY = 2**20  # bytes of a reply
_MAX_WAIT_S = 30.0  # between two requests

log = logging.getLogger(__name__)


class _EndpointError(Exception):
    """No verdict for a reason that may pass."""


@dataclass(kw_only=True, slots=True)
class JudgeConfig:
    """Where the judge is, and how patiently it is asked."""

    url: str = ""
    """Base address of the endpoint, such as http://localhost:8000/v1; empty for no judge."""
    model: str = ""
    """Name of the model there."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; nothing is sent when it is not set."""
    timeout_s: float = 60.0
    """Seconds that one request may take, to the last byte of its reply."""
    patience_s: float = 600.0
    """Seconds for which a failing endpoint is asked again, before that one answer is an ERROR."""
    attempts: int = 4
    """Replies that are no verdict ("perhaps", or nothing), before an answer is an ERROR."""
    wait_s: float = 1.0
    """Seconds before the second request; doubled before each further one, up to 30."""
    concurrency: int = 16
    """Requests under way at once, per engine."""
    cache: int = 100_000
    """Judgements remembered."""

    def check(self) -> None:
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url: {self.url!r} must start with http:// or https://")
        if self.url and not self.model:
            raise ValueError("model: none given for the judge")
        for name in ("attempts", "concurrency"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} must be at least 1")
        for name in ("timeout_s", "patience_s", "wait_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: {getattr(self, name)} must be positive")

    def rules_on(self, answer: str, domain: str) -> bool:
        """Whether this judge has a say on a gold answer: it is on, and the answer is words."""
        return bool(self.url) and domain == "math" and is_words(answer)


def is_words(answer: str) -> bool:
    r"""Whether a gold answer is words: "track team" or "\text{even}", not "\frac{\pi}{2}"."""
    return _SPOKEN.search(_COMMAND.sub(" ", answer)) is not None


class Judge:
    """Asks a model whether two answers agree. Thread-safe."""

    # Endpoints that have replied to this process: a 4xx from one of them will pass.
    _replied: ClassVar[set[tuple[str, str]]] = set()

    def __init__(self, cfg: JudgeConfig) -> None:
        cfg.check()
        if not cfg.url:
            raise ValueError("url: none given for the judge")
        self.cfg = cfg
        self._ssl = ssl.create_default_context()
        self._threads = ThreadPoolExecutor(cfg.concurrency, "judge")
        self._cache: OrderedDict[tuple[str, str, str], Verdict] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def judge(self, question: str, answer: str, extracted: str | None) -> Verdict:
        """CORRECT or WRONG; UNPARSED without an answer; ERROR when the judge gives no verdict.

        Raises VerificationError when the endpoint refuses the first request of this process as such
        (no such model, no valid key): every other request would end the same way.
        """
        if extracted is None:
            return Verdict.UNPARSED
        key = (question, answer, extracted)
        if known := self._cache.get(key):
            return known
        verdict = self._ask_patiently(*key)
        if verdict.judged:
            with self._lock:
                self._cache[key] = verdict
                if len(self._cache) > self.cfg.cache:
                    self._cache.popitem(last=False)
        return verdict

    def close(self) -> None:
        """Let go of the threads of `ajudge`; what waits for one is cancelled."""
        self._closed.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def ajudge(self, question: str, answer: str, extracted: str | None) -> Verdict:
        """`judge` for asyncio."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self.judge, question, answer, extracted)

    def _ask_patiently(self, question: str, answer: str, extracted: str) -> Verdict:
        parts = {"question": question, "answer": answer, "extracted": extracted}
        prompt = PROMPT.format(**{k: _printable(v[:_LONGEST]) for k, v in parts.items()})
        deadline = time.monotonic() + self.cfg.patience_s
        wait_s, replies, reason = self.cfg.wait_s, 0, ""
        while True:
            try:
                verdict = read(self._reply(prompt))
            except _EndpointError as e:
                reason = str(e)
            else:
                replies += 1
                if verdict.judged or replies >= self.cfg.attempts:
                    return verdict
                reason = "its reply was no verdict"
            if time.monotonic() + wait_s > deadline or self._closed.wait(wait_s):
                log.warning(
                    "the judge gave no verdict on one answer, which is an error: %s", reason
                )
                return Verdict.ERROR
            wait_s = min(2 * wait_s, _MAX_WAIT_S)

    def _reply(self, prompt: str) -> str:
        """The model's reply; _EndpointError for whatever may be better the next time."""
        try:
            status, body = asyncio.run(self._post(prompt))
        except TimeoutError as e:
            raise _EndpointError(f"no whole reply in {self.cfg.timeout_s:g} s") from e
        except (httpx.HTTPError, OSError) as e:
            raise _EndpointError(f"{type(e).__name__}: {e}") from e
        endpoint = (self.cfg.url, self.cfg.model)
        if status != 200:
            reason = f"{status} {body[:500].decode('utf-8', 'replace')}"
            refused = 400 <= status < 500 and status not in _RETRIED
            if refused and endpoint not in self._replied:
                raise VerificationError(
                    f"the judge at {self.cfg.url} refused the request: {reason}"
                )
            raise _EndpointError(reason)
        try:
            content = json.loads(body)["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError, ValueError, RecursionError) as e:
            raise _EndpointError(f"not a chat completion: {body[:200]!r}") from e
        self._replied.add(endpoint)
        return content if isinstance(content, str) else ""

    async def _post(self, prompt: str) -> tuple[int, bytes]:
        """Status and body of one request, within the time and size that a reply may have."""
        headers = {}
        if key := os.environ.get(self.cfg.key_variable):
            headers["Authorization"] = f"Bearer {key}"
        body: dict[str, Any] = {
            "model": self.cfg.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": 16,
        }
        url = self.cfg.url.rstrip("/") + "/chat/completions"
        async with (
            asyncio.timeout(self.cfg.timeout_s),
            httpx.AsyncClient(verify=self._ssl, timeout=self.cfg.timeout_s) as client,
            client.stream("POST", url, json=body, headers=headers) as response,
        ):
            received = bytearray()
            async for chunk in response.aiter_bytes():
                received += chunk
                if len(received) > _MAX_BODY:
                    raise httpx.DecodingError(f"a reply of more than {_MAX_BODY} bytes")
            return response.status_code, bytes(received)


def read(reply: str) -> Verdict:
    """The verdict in a reply of one word, after any thinking; ERROR when it is anything else."""
    match = _WORD.fullmatch(reply.rpartition("</think>")[2])
    if match is None:
        return Verdict.ERROR
    return Verdict.CORRECT if match[1].lower() == "correct" else Verdict.WRONG


def _printable(text: str) -> str:
    """Text that can be encoded: a lone surrogate cannot."""
    return text.encode("utf-8", "replace").decode()
