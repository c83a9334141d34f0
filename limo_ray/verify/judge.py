"""An optional judge for free-form answers: a language model behind an OpenAI-compatible endpoint.

    judge = Judge(JudgeConfig(url="http://localhost:8000/v1", model="Qwen2.5-32B-Instruct"))
    judge.judge(question, answer, extracted)          -> Verdict
    await judge.ajudge(question, answer, extracted)

Off unless a config names one; a `Verifier` then asks it where the gold answer is words and the
rules say that another answer is not the same. Its reply must be one word: "INCORRECT" is not
"correct", and anything else is no judgement. Replies are cached; failures of the endpoint are tried
again.
"""

import asyncio
import json
import os
import re
import threading
import time
import urllib.error
import urllib.request
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

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
_RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}


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
    """Seconds that one request may take."""
    attempts: int = 4
    """Requests for one judgement, before it is an ERROR."""
    wait_s: float = 1.0
    """Seconds before the second request; doubled before each further one."""
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

    def rules_on(self, answer: str, domain: str) -> bool:
        """Whether this judge has a say on a gold answer: it is on, and the answer is words."""
        return bool(self.url) and domain == "math" and is_words(answer)


def is_words(answer: str) -> bool:
    r"""Whether a gold answer is words: "track team" or "\text{even}", not "\frac{\pi}{2}"."""
    return _SPOKEN.search(_COMMAND.sub(" ", answer)) is not None


class Judge:
    """Asks a model whether two answers agree. Thread-safe."""

    def __init__(self, cfg: JudgeConfig) -> None:
        cfg.check()
        if not cfg.url:
            raise ValueError("url: none given for the judge")
        self.cfg = cfg
        self._threads = ThreadPoolExecutor(cfg.concurrency, "judge")
        self._cache: OrderedDict[tuple[str, str, str], Verdict] = OrderedDict()
        self._lock = threading.Lock()

    def judge(self, question: str, answer: str, extracted: str | None) -> Verdict:
        """CORRECT or WRONG; UNPARSED without an answer; ERROR when the judge gives no judgement.

        Raises VerificationError when the endpoint refuses the request as such (no such model, no
        valid key): every other request would end the same way.
        """
        if extracted is None:
            return Verdict.UNPARSED
        key = (question, answer, extracted)
        if known := self._cache.get(key):
            return known
        verdict = Verdict.ERROR
        for attempt in range(self.cfg.attempts):
            if attempt:
                time.sleep(self.cfg.wait_s * 2 ** (attempt - 1))
            try:
                verdict = self._ask(*key)
            except urllib.error.HTTPError as e:
                if e.code not in _RETRIED:
                    reason = e.read(500).decode("utf-8", "replace")
                    raise VerificationError(
                        f"the judge at {self.cfg.url} refused the request: {e.code} {reason}"
                    ) from e
                verdict = Verdict.ERROR
            except (OSError, ValueError):  # no connection, no reply, or one that is no completion
                verdict = Verdict.ERROR
            if verdict.judged:
                with self._lock:
                    self._cache[key] = verdict
                    if len(self._cache) > self.cfg.cache:
                        self._cache.popitem(last=False)
                break
        return verdict

    def close(self) -> None:
        """Let go of the threads of `ajudge`; what waits for one is cancelled."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def ajudge(self, question: str, answer: str, extracted: str | None) -> Verdict:
        """`judge` for asyncio."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self.judge, question, answer, extracted)

    def _ask(self, question: str, answer: str, extracted: str) -> Verdict:
        parts = {"question": question, "answer": answer, "extracted": extracted}
        prompt = PROMPT.format(**{k: _printable(v[:_LONGEST]) for k, v in parts.items()})
        body = {
            "model": self.cfg.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": 16,
        }
        request = urllib.request.Request(
            self.cfg.url.rstrip("/") + "/chat/completions",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        if key := os.environ.get(self.cfg.key_variable):
            request.add_header("Authorization", f"Bearer {key}")
        with urllib.request.urlopen(request, timeout=self.cfg.timeout_s) as response:
            reply = json.load(response)
        try:
            return read(reply["choices"][0]["message"]["content"])
        except (KeyError, IndexError, TypeError) as e:
            raise ValueError(f"not a chat completion: {str(reply)[:200]}") from e


def read(reply: str) -> Verdict:
    """The verdict in a reply of one word, after any thinking; ERROR when it is anything else."""
    match = _WORD.fullmatch(reply.rpartition("</think>")[2])
    if match is None:
        return Verdict.ERROR
    return Verdict.CORRECT if match[1].lower() == "correct" else Verdict.WRONG


def _printable(text: str) -> str:
    """Text that can be encoded: a lone surrogate cannot."""
    return text.encode("utf-8", "replace").decode()
