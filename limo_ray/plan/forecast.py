"""What sampling takes on a cluster: arithmetic over samples of the assumptions, no simulation.

1. Attempts at a problem follow exactly from its pass rate and its stop rule (`stop_rule_math`),
   since the sampler starts only attempts that one-by-one sampling would. Speculative attempts (on
   idle slots, at most `sampler.speculative_share`) are left out.
2. Replicas of an engine are alike, and full while problems are at hand; the end is in `tail`.
3. Engines that follow one another are a line: each is done when its own work is done, or shortly
   after the one before it.

The referee in tests/plan runs the real scheduler. All arrays are (trials,).
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np

from limo_ray.plan.assumptions import EngineSpeed, StageSamples
from limo_ray.plan.cluster import Allocation
from limo_ray.plan.tail import chains, drain
from limo_ray.sampling.batching import MAX_QUEUED_BLOCKS, batch_sizes
from limo_ray.sampling.config import SamplerConfig
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.stop_rule_math import walk

HALT_S = 1.0  # until all samplers have heard that enough is kept (coordinator_link.REPORT_S)


@dataclass(slots=True)
class StageForecast:
    stage: Stage
    problems: np.ndarray
    kept: np.ndarray
    attempts: np.ndarray
    """Finished, and in the log."""
    tokens: np.ndarray


class PassForecast:
    """The stages on one engine: what they do, and when."""

    def __init__(
        self, stages: list[Stage], samples: list[StageSamples], allocation: Allocation,
        speed: EngineSpeed, sampler: SamplerConfig, total: int, rng: np.random.Generator,
    ) -> None:  # fmt: skip
        """`total`: problems, where the sampler knows of them; 0 for very many."""
        self.stages, self.samples, self.allocation = stages, samples, allocation
        self.speed, self.sampler, self.rng = speed, sampler, rng
        engine, self.replicas = allocation.engine, allocation.replicas
        scale = engine.min_replicas, engine.max_replicas
        rules = [stage.rule for stage in stages]
        self.batch, self.batches = batch_sizes(engine.max_num_seqs, *scale, total, rules)
        self.share = np.ones(samples[0].rates.shape[1])
        """Of the problems that come, those that go on."""
        self.each: list[StageForecast] = []
        """By stage, the mean for each problem that comes to the pass."""
        for stage, sample in zip(stages, samples, strict=True):
            path, reach = walk(stage.rule), self.share
            attempts, correct = path.attempts @ sample.rates, path.correct @ sample.rates
            tokens = correct * sample.correct.mean(axis=0)
            tokens += (attempts - correct) * sample.other.mean(axis=0)
            self.share = reach * (path.kept @ sample.rates if stage.gate else 1)
            self.each.append(
                StageForecast(stage, reach, self.share, reach * attempts, reach * tokens)
            )
        self.tokens = np.maximum(sum(each.tokens for each in self.each), 1e-9)
        self.ticks, self.chain_tokens = chains(stages, samples, rng)
        self.chain_tokens *= self.tokens / self.chain_tokens.mean(axis=0)
        # A batch leaves, and another one comes, when its last problem is decided.
        chances = np.diff(np.linspace(0, 1, len(self.ticks) + 1) ** self.batch)
        batch_ticks = chances @ np.sort(self.ticks, axis=0)
        held = self.batch * self.batches * self.tokens / batch_ticks
        self.slots = np.minimum(engine.max_num_seqs, held)
        self.rate = self.slots / speed.step(self.slots)
        """Tokens per second of a replica while problems are at hand."""

    def rows_ahead(self, following: "PassForecast") -> int:
        """Problems that wait for the following engine before this one is held back."""
        return MAX_QUEUED_BLOCKS * (self.batch + following.batch)

    def work(
        self, within: np.ndarray, done: np.ndarray, pool: np.ndarray, begin: np.ndarray,
        before: "PassForecast | None",
    ) -> None:  # fmt: skip
        """When the problems are decided: sets `ready`, the second in which its engines decode,
        `end`, when it has no more work, and `batch_s`, what a batch takes if it is alone.

        Args:
            within: problems that come to the pass and count as sampled.
            done: problems that it has to do.
            pool: problems that would come to it without a target.
            begin: second in which it asks for its nodes.
            before: the pass that its problems come from meanwhile, if there is one.
        """
        node, flush_s = self.allocation.node, self.sampler.flush_s / 2
        self.within, self.done, self.begin = within, done, begin
        own, available = done / self.replicas, pool / self.replicas
        # with a target the rest of the last keeper's batch is waited for
        own = np.clip(own + np.where(done < pool, self.batch / 2, 0), 1e-9, available + 1e-9)
        chain = self.ticks, self.chain_tokens
        full_s, tail_s = drain(*chain, own, available, self.slots, self.speed, self.replicas)
        single = np.minimum(own, self.batch)
        alone = drain(*chain, single, single, self.slots, self.speed, 1)
        self.batch_s: np.ndarray = alone[0] + alone[1] + flush_s
        arrival = before.ready + before.batch_s if before else begin
        self.ready: np.ndarray = np.maximum(begin + node.start_s, arrival) + self.speed.start_s
        # More tokens than the mean take longer, and so do nodes that vanish: they start again.
        chance = self.chain_tokens.std(axis=0) / np.sqrt(np.maximum(done, 1)) / self.tokens
        self.luck = np.maximum(0.1, 1 + self.rng.normal(size=len(own)) * chance)
        often = node.preemptions_per_hour / 3600
        self.useful = math.exp(-often * (node.start_s + self.speed.start_s))
        """Share of the time in which its nodes are there."""
        self.problems_per_s = self.replicas * self.rate * self.useful / self.tokens / self.luck
        self.tail_s = self.luck * tail_s + flush_s
        self.end = self.ready + self.luck * full_s / self.useful + self.tail_s
        if before:
            self.end = np.maximum(self.end, before.end + self.batch_s)

    @property
    def results(self) -> list[StageForecast]:
        """What the stages come to."""
        more = self.done * self.luck
        return [
            StageForecast(
                each.stage, self.done * each.problems, self.done * each.kept,
                more * each.attempts, more * each.tokens,
            )
            for each in self.each
        ]  # fmt: skip

    @property
    def preemptions(self) -> np.ndarray:
        often = self.allocation.node.preemptions_per_hour / 3600
        return often * math.ceil(self.allocation.nodes) * (self.end - self.begin)


@dataclass(slots=True)
class SamplingForecast:
    seconds: np.ndarray
    sampled: np.ndarray
    """Problems up to the last keeper wanted, or all."""
    kept: np.ndarray
    reached: np.ndarray
    """Whether there was a target and it was reached."""


def forecast(
    passes: list[PassForecast], problems: np.ndarray, *, wanted: int = 0, overlap: bool = True,
    rng: np.random.Generator,
) -> SamplingForecast:  # fmt: skip
    """Forecasts a sampling job; what each pass does is then in the passes.

    Args:
        problems: (trials,) in the pool.
        wanted: keepers that end the job; 0 for none.
        overlap: see DifficultyConfig.overlap.
    """
    share = np.prod([pass_.share for pass_ in passes], axis=0)
    sampled = problems
    if wanted:
        sampled = wanted + rng.negative_binomial(wanted, np.maximum(share, 1e-9))
    reached = (wanted > 0) & (sampled <= problems)
    sampled = np.minimum(sampled, problems)
    within, pool, end = sampled, problems, np.zeros(len(problems))
    before = None
    for pass_ in passes:
        # without overlap the target counts when only the last engine is left
        stops = reached & (overlap or pass_ is passes[-1])
        pass_.work(within, np.where(stops, within, pool), pool, end * (not overlap), before)
        passed = rng.binomial(within, pass_.share)
        pool = passed + rng.binomial(pool - within, pass_.share)
        within, end, before = passed, pass_.end, pass_ if overlap else None
    stop = (end + HALT_S) * reached
    if wanted:
        _work_until(passes if overlap else passes[-1:], stop, problems)
    kept = np.where(reached, wanted, passed)
    return SamplingForecast(np.maximum(end, stop), sampled, kept, reached)


def _work_until(passes: list[PassForecast], stop: np.ndarray, arriving: np.ndarray) -> None:
    """What engines do beyond the last keeper until the job stops (0: it does not)."""
    for pass_ in passes:
        begun, left = (
            np.clip(pass_.problems_per_s * (stop - pass_.ready - late), pass_.within, arriving)
            for late in (0, pass_.batch_s)
        )
        pass_.done = np.where(stop > 0, begun, pass_.done)
        arriving = left * pass_.share
    for pass_, following in reversed(list(itertools.pairwise(passes))):
        # what waits, what the following engine holds, and half of what this one holds meanwhile
        held, holds = (p.replicas * p.batches * p.batch for p in (following, pass_))
        ahead = pass_.rows_ahead(following) + held + holds / 2
        most = np.maximum(pass_.within, following.done / np.maximum(pass_.share, 1e-12) + ahead)
        pass_.done = np.where(stop > 0, np.minimum(pass_.done, most), pass_.done)
    for pass_ in passes:
        alone = pass_.ready + pass_.done / pass_.problems_per_s + pass_.tail_s
        ends = np.minimum(stop, alone) if pass_ is passes[0] else stop
        pass_.end = np.where(stop > 0, ends, pass_.end)
