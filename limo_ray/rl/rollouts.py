"""Rollouts: an engine with the newest weights draws them, the verifier judges them, all are logged.

A step's order names the weights and the problems in the order in which they are tried. A group is
decided as early as it can be: two different rewards, and the rest of it is drawn; `probe` equal
ones, and it is given up and the next problem begun. So which groups a step has depends on outcomes
alone, never on which rollout was short.

    <store>/attempts/<fingerprint>/                     every rollout with its verdict
    <store>/rl/<name>/rollouts/<part>-<fingerprint>/    with tokens and log-probabilities

The fingerprint covers the weights. An engine that died with its process does the same order again
and draws only what is not there.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import pyarrow as pa

from limo_ray.attempts.log import AttemptLog, LogWriter
from limo_ray.core.errors import EngineError
from limo_ray.core.prompts import question_messages
from limo_ray.core.records import ATTEMPT, Attempt, Problem, Verdict
from limo_ray.engines.base import (
    Completion,
    EngineConfig,
    Request,
    TrainableEngine,
)
from limo_ray.rl.config import RLConfig
from limo_ray.rl.rewards import reward
from limo_ray.sampling.slots import EngineSlots
from limo_ray.storage.store import Store
from limo_ray.verify import Health, Verifier, final_verdict, verdict_key

log = logging.getLogger(__name__)

ROLLOUT = pa.schema(
    [*ATTEMPT, ("tokens", pa.list_(pa.int32())), ("logprobs", pa.list_(pa.float32()))]
)


@dataclass(kw_only=True, slots=True)
class Rollout:
    """One completion: its attempt, its tokens with the engine's log-probabilities, its reward."""

    attempt: Attempt
    tokens: list[int]
    logprobs: list[float]
    reward: float | None
    """None where the verifier gave no judgement."""


@dataclass(kw_only=True, slots=True)
class Group:
    """The rollouts of one problem and step, by attempt index."""

    problem_id: str
    prompt: list[int]
    rollouts: list[Rollout]

    @property
    def mixed(self) -> bool:
        """Whether it has variance: two different rewards."""
        return len({each.reward for each in self.rollouts} - {None}) > 1

    def outcome(self) -> tuple[str, int, int]:
        """Problem id, correct and judged rollouts."""
        judged = [each for each in self.rollouts if each.reward is not None]
        correct = sum(each.attempt.verdict is Verdict.CORRECT for each in judged)
        return self.problem_id, correct, len(judged)


@dataclass(kw_only=True, slots=True)
class Order:
    """What an engine is to draw."""

    fingerprint: str
    """Of weights, prompt and sampling: it names the attempt log."""
    part: str
    """Names the rollouts' folder: a step's, or those of an evaluation."""
    weights: str
    """Folder of the weights; empty: those that the engine starts with."""
    size: int = 0
    """Elements of all parameters."""
    bits: int = 0
    """Their bit sum, which the engine's must equal where it has all of them to look at: vLLM on CPU
    packs matrices so that they cannot be read."""
    problems: list[Problem] = field(default_factory=list)
    """In the order in which they are tried."""
    groups: int = 0
    """Mixed groups that are wanted; the problems may run out before."""
    rollouts: int = 8
    """Of each group."""
    probe: int = 0
    """0: every problem's group is drawn whole."""


@dataclass(kw_only=True, slots=True)
class Drawn:
    """What came of an order."""

    groups: list[Group]
    """Every group that was begun, in the order's order; those given up have `probe` rollouts."""
    new: int = 0
    """Rollouts drawn now; the others were logged."""
    seconds: float = 0.0


class RolloutLog:
    """The rollouts of one order: those there are, and new ones."""

    def __init__(self, store: Store, name: str, order: Order) -> None:
        self.store = store
        self.folder = f"rl/{name}/rollouts/{order.part}-{order.fingerprint}"
        self.attempts = AttemptLog(store, order.fingerprint)
        self.writer = LogWriter(self.attempts)
        self.index = self.attempts.read_index()
        self.pending: list[tuple[Attempt, list[int], list[float]]] = []
        self.rows: dict[str, dict[int, dict[str, Any]]] = {}
        self._flushing = asyncio.Lock()
        for file in store.files(self.folder):
            for row in store.read_table(f"{self.folder}/{file}").to_pylist():
                self.rows.setdefault(row["problem_id"], {}).setdefault(row["index"], row)
                if row["index"] not in self.index.logged(row["problem_id"]):  # killed in between
                    self.writer.append(_attempt(row))

    def indexes(self, problem_id: str, size: int) -> list[int]:
        """Attempt indexes of a group: those with tokens here, then ones that no run has used."""
        mine = sorted(self.rows.get(problem_id, {}))[:size]
        taken = self.index.logged(problem_id) | set(mine)
        free = max(taken, default=-1) + 1
        return [*mine, *range(free, free + size - len(mine))]

    def add(self, attempt: Attempt, tokens: list[int], logprobs: list[float]) -> None:
        self.pending.append((attempt, tokens, logprobs))
        self.writer.append(attempt)

    async def flush(self) -> None:
        """Writes what is pending: the tokens first, a row of the log can be made from them."""
        async with self._flushing:
            rows, self.pending = self.pending, []
            if rows:
                table = pa.Table.from_pylist(
                    [asdict(attempt) | {"tokens": tokens, "logprobs": logprobs}
                     for attempt, tokens, logprobs in rows], schema=ROLLOUT,
                )  # fmt: skip
                name = f"part-{time.time_ns():020d}-{secrets.token_hex(4)}.parquet"
                await asyncio.to_thread(self.store.write_table, f"{self.folder}/{name}", table)
            await asyncio.to_thread(self.writer.flush)


def _attempt(row: dict[str, Any]) -> Attempt:
    values = {name: row[name] for name in ATTEMPT.names}
    return Attempt(**values | {"verdict": Verdict(row["verdict"])})


class RolloutEngine:
    """A Ray actor around one engine. `draw` may be called again after any death."""

    def __init__(self, config: RLConfig, engine: EngineConfig, store: Store) -> None:
        self.config = config
        self.store = store
        self.slots = EngineSlots(engine, config.sampler.max_engine_deaths, lambda: None)
        sampler = config.sampler
        self.verifier = Verifier(
            workers=sampler.verify_workers, timeout_s=sampler.verify_timeout_s,
            judge=sampler.judge, code=sampler.code,
        )  # fmt: skip
        self.health = Health(max_error_share=sampler.max_error_share)
        self.loaded: str | None = None
        self.shares = config.share_gpu and engine.device == "gpu"
        self.asleep = False
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Starts the engine. Raises EngineError with the reason when it cannot."""
        await self._engine(Order(fingerprint="", part="", weights=""))
        await self._leave_gpu()

    async def stop(self) -> None:
        self.slots.shutdown()
        self.verifier.close()

    async def draw(self, order: Order) -> Drawn:
        """Groups of the order's problems, until `groups` of them have variance.

        Raises:
            EngineError: the engine does not start, keeps dying, or did not take the weights.
            VerificationError: too many verdicts are TIMEOUT or ERROR.
        """
        begun = time.monotonic()
        written = RolloutLog(self.store, self.config.name, order)
        drawing = _Drawing(self, order, written)
        flushing = asyncio.create_task(self._keep_flushing(written))
        try:
            groups = await drawing.run()
        finally:
            flushing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await flushing
            await written.flush()
        await self._leave_gpu()
        return Drawn(groups=groups, new=drawing.new, seconds=time.monotonic() - begun)

    async def _leave_gpu(self) -> None:
        """Lets the worker have the GPU, if there is one for both."""
        if self.shares and self.slots.engine is not None:
            await cast(TrainableEngine, self.slots.engine).sleep()
            self.asleep = True

    async def _keep_flushing(self, written: RolloutLog) -> None:
        while True:
            await asyncio.sleep(self.config.sampler.flush_s)
            try:
                await asyncio.shield(written.flush())
            except OSError as error:
                log.warning("rollouts not written (%s): will try again", error)

    async def _engine(self, order: Order) -> TrainableEngine:
        """The engine with the order's weights; a new one where the last died."""
        async with self._starting:
            if self.slots.engine is None:
                self.loaded, self.asleep = None, False
                await self.slots.start()
            engine = cast(TrainableEngine, self.slots.engine)
            if self.asleep:
                await engine.wake()
                self.asleep = False
            if order.weights and self.loaded != order.weights:
                size, bits = await engine.load_weights(order.weights)
                if size >= order.size > 0 and bits != order.bits:
                    raise EngineError(
                        f"the engine's weights are not those of {order.weights}: bit sum {bits}, "
                        f"should be {order.bits}"
                    )
                self.loaded = order.weights
            return engine

    async def complete(self, order: Order, problem: Problem, index: int) -> tuple[
        list[int], Completion
    ]:  # fmt: skip
        """Prompt and completion of one rollout, by another engine where the first one dies."""
        while True:
            engine = await self._engine(order)
            prompt = engine.render(question_messages(problem.question, self.config.system))
            request = Request(
                problem=problem, index=index, prompt=prompt, sampling=self.config.sampling,
                logprobs=True,
            )  # fmt: skip
            completion = await self.slots.generate(engine, request)
            if completion is not None:
                return prompt, completion

    async def judge(self, problem: Problem, index: int, completion: Completion) -> Attempt:
        """The completion as an attempt with its verdict."""
        judged = await self.verifier.averify(
            problem.answer, completion.text, problem.domain,
            complete=completion.finish_reason != "length", question=problem.question,
        )  # fmt: skip
        verdict = final_verdict(judged.verdict, completion.finish_reason)
        self.health.add(verdict)
        return Attempt(
            problem_id=problem.id, index=index, completion=completion.text,
            finish_reason=completion.finish_reason, prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens, verdict=verdict,
            extracted=judged.extracted,
            judge=verdict_key(problem.answer, problem.domain, self.config.sampler.judge),
        )  # fmt: skip


class _Drawing:
    """One order at work."""

    def __init__(self, actor: RolloutEngine, order: Order, written: RolloutLog) -> None:
        self.actor = actor
        self.order = order
        self.written = written
        self.new = 0

    async def run(self) -> list[Group]:
        """Begins as many problems as groups are wanted, and one more for each that is given up."""
        problems = iter(self.order.problems)
        found: list[asyncio.Task[Group]] = []
        running: set[asyncio.Task[Group]] = set()

        def begin(count: int) -> None:
            for _, problem in zip(range(count), problems, strict=False):
                found.append(asyncio.create_task(self._group(problem)))
                running.add(found[-1])

        try:
            begin(self.order.groups)
            while running:
                ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                running -= ended
                begin(sum(not each.result().mixed for each in ended))
        except BaseException:
            await _cancelled(found)
            raise
        return [each.result() for each in found]

    async def _group(self, problem: Problem) -> Group:
        """A problem's group: `probe` rollouts, and the others if two of these differ."""
        order = self.order
        indexes = self.written.indexes(problem.id, order.rollouts)
        group = await self._rollouts(problem, indexes[: order.probe or order.rollouts])
        if group.mixed and order.probe:
            rest = await self._rollouts(problem, indexes[order.probe :])
            group.rollouts += rest.rollouts
        return group

    async def _rollouts(self, problem: Problem, indexes: list[int]) -> Group:
        tasks = [asyncio.create_task(self._rollout(problem, index)) for index in indexes]
        try:
            found = await asyncio.gather(*tasks)
        except BaseException:
            await _cancelled(tasks)
            raise
        return Group(
            problem_id=problem.id, prompt=found[0][0], rollouts=[each for _, each in found]
        )

    async def _rollout(self, problem: Problem, index: int) -> tuple[list[int], Rollout]:
        row = self.written.rows.get(problem.id, {}).get(index)
        if row is not None:
            engine = await self.actor._engine(self.order)
            prompt = engine.render(question_messages(problem.question, self.actor.config.system))
            attempt, tokens, logprobs = _attempt(row), row["tokens"], row["logprobs"]
        else:
            prompt, completion = await self.actor.complete(self.order, problem, index)
            attempt = await self.actor.judge(problem, index, completion)
            tokens, logprobs = completion.tokens, completion.logprobs
            self.written.add(attempt, tokens, logprobs)
            self.new += 1
        value = reward(attempt.verdict, self.actor.config.reward)
        return prompt, Rollout(attempt=attempt, tokens=tokens, logprobs=logprobs, reward=value)


async def _cancelled(tasks: "list[asyncio.Task[Any]]") -> None:
    """Ends tasks of which one has failed; the others' errors are the same."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
