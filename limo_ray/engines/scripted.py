"""Engines that need no model: made-up completions, and the replay of an attempt log.

The scripted engine gives every problem a pass rate of its own and every attempt an outcome that
depends on (seed, problem, index) alone, so that two runs, in whatever order, sample the same. Fast
tests, simulations and the benchmark of the stop rule use it; nothing else does.
"""

import asyncio
import functools
import hashlib
import json
import math
from dataclasses import dataclass
from random import Random

from limo_ray.core.errors import EngineError
from limo_ray.engines.base import Completion, EngineConfig, NoAttempt, Request


@dataclass(kw_only=True, slots=True)
class ScriptConfig:
    alpha: float = 0.6
    """Pass rates are drawn from Beta(alpha, beta): a U shape below 1, as real pools have."""
    beta: float = 0.3
    """See alpha."""
    tokens: int = 40
    """Mean completion length, in tokens; lengths are exponential, or log-normal with a sigma."""
    sigma: float = 0.0
    """Of the logarithm of log-normal lengths; 1 is a usual spread of long reasoning."""
    seconds_per_token: float = 0.0
    """Time per token and sequence; 0 answers at once."""
    wrong: str = "x_{wrong}"
    """Answer of a wrong completion; -1 is compared with a number at once, the default slowly."""
    unparsed: float = 0.0
    """Share of completions without an answer."""
    replies: tuple[str, ...] = ()
    """What it answers when it is asked about a problem (domain reply), one of them by chance."""
    fail: str = ""
    """Refuse to start, for this reason."""
    log: str = ""
    """replay: folder of the attempts to replay (one sampling fingerprint of an attempt log)."""


class ScriptedEngine:
    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.script = ScriptConfig(**config.script)
        self._slots = asyncio.Semaphore(config.max_num_seqs)
        self._open: set[asyncio.Future[bool]] = set()  # resolve to whether they were cut off
        self._over = False

    async def start(self) -> None:
        if self.script.fail:
            raise EngineError(self.script.fail)

    def render(self, messages: list[dict[str, str]]) -> list[int]:
        """One made-up token per word."""
        return list(range(sum(len(turn["content"].split()) for turn in messages)))

    def pass_rate(self, problem_id: str) -> float:
        rng = _random(self.config.seed, problem_id)
        return rng.betavariate(self.script.alpha, self.script.beta)

    async def generate(self, request: Request) -> Completion:
        async with self._slots:
            whole = self._completion(request)
            left = whole.completion_tokens - len(request.prefix)
            done = await self._decode(left)
        if done >= left:
            if request.logprobs:  # made up, small enough for any vocabulary
                whole.tokens = [3 + place % 200 for place in range(whole.completion_tokens)]
                whole.logprobs = [-1.0] * whole.completion_tokens
            return whole
        tokens = list(range(len(request.prefix) + done))  # made up
        return Completion(
            text="",
            finish_reason="cut",
            prompt_tokens=whole.prompt_tokens,
            completion_tokens=len(tokens),
            tokens=tokens,
        )

    async def _decode(self, tokens: int) -> int:
        """Takes the time of so many tokens; returns how many there are when it is cut off."""
        pace = self.script.seconds_per_token
        if self._over:
            return 0
        if not pace:
            await asyncio.sleep(0)
            return tokens
        loop = asyncio.get_running_loop()
        started = loop.time()
        ended: asyncio.Future[bool] = loop.create_future()
        self._open.add(ended)
        timer = loop.call_later(tokens * pace, _resolve, ended)
        try:
            cut = await ended
        finally:
            timer.cancel()
            self._open.discard(ended)
        return min(tokens - 1, int((loop.time() - started) / pace)) if cut else tokens

    async def load_weights(self, folder: str) -> tuple[int, int]:
        """Pass rates stay as they are. No parameters are compared."""
        return 0, 0

    async def sleep(self) -> None:
        """It has no GPU to leave."""

    async def wake(self) -> None:
        """It has no GPU to take."""

    async def cut_off(self) -> None:
        self._over = True
        for ended in self._open:
            if not ended.done():
                ended.set_result(True)

    def _completion(self, request: Request) -> Completion:
        problem = request.problem
        rng = _random(self.config.seed, problem.id, request.index)
        correct = rng.random() < self.pass_rate(problem.id)
        gold = json.loads(problem.answer)["answer"] if problem.domain == "gym" else problem.answer
        tokens = 1 + round(self._length(rng))
        words = ["Let me check this step, since it might be wrong; therefore I verify it."]
        words += ["Perhaps another way helps."] * (tokens // 8)
        answer = gold if correct else self.script.wrong
        if problem.domain == "reply":
            words = [f"I have looked at it.\nAnswer: {rng.choice(self.script.replies or ('?',))}"]
        elif rng.random() >= self.script.unparsed:
            words.append(rf"The final answer is \boxed{{{answer}}}.")
        cut = tokens > request.sampling.max_tokens
        return Completion(
            text=" ".join(words[:-1] if cut else words),
            finish_reason="length" if cut else "stop",
            prompt_tokens=len(request.prompt),
            completion_tokens=min(tokens, request.sampling.max_tokens),
        )

    def _length(self, rng: Random) -> float:
        mean, sigma = self.script.tokens, self.script.sigma
        if not sigma:
            return rng.expovariate(1 / mean)
        return rng.lognormvariate(math.log(mean) - sigma**2 / 2, sigma)

    def shutdown(self) -> None:
        pass


def _resolve(ended: "asyncio.Future[bool]") -> None:
    if not ended.done():
        ended.set_result(False)


class ReplayEngine(ScriptedEngine):
    """Gives back, for (problem, index), the completion that an attempt log holds.

    Raises NoAttempt for an attempt that the log does not hold.
    """

    async def start(self) -> None:
        self._logged = _load(self.script.log)

    def _completion(self, request: Request) -> Completion:
        attempt = request.problem.id, request.index
        if attempt not in self._logged:
            raise NoAttempt(f"{self.script.log} has no attempt {attempt[1]} at {attempt[0]}")
        text, reason, tokens = self._logged[attempt]
        return Completion(
            text=text,
            finish_reason=reason,
            prompt_tokens=len(request.prompt),
            completion_tokens=tokens,
        )


@functools.lru_cache(maxsize=1)
def _load(folder: str) -> dict[tuple[str, int], tuple[str, str, int]]:
    from limo_ray.attempts.parts import read_table
    from limo_ray.storage.store import Store

    columns = ["problem_id", "index", "completion", "finish_reason", "completion_tokens"]
    rows = read_table(Store(folder), "", columns).to_pylist()
    return {
        (row["problem_id"], row["index"]): (
            row["completion"],
            row["finish_reason"],
            row["completion_tokens"],
        )
        for row in rows
    }


def _random(*parts: object) -> Random:
    text = ":".join(map(str, parts))
    return Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))
