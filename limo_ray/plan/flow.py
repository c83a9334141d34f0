"""A cluster at work, as a flow: for pools of millions, in seconds.

Three facts make it short and keep it right.

1. Attempts at a problem follow exactly from its pass rate and the rule (`exact.walk`), whatever
   the cluster does, since the sampler draws what one-by-one sampling would. Their sums over
   millions of problems are normal to great accuracy.
2. Replicas of an engine are alike and full while problems are at hand. So a few of them are
   simulated in detail (`events.simulate`: real scheduler, some thousand problems), a few times
   over, which tells two numbers: their tokens per second while there is work (`Detail.rate`), and
   the seconds that a job takes beyond its tokens at that rate (`Detail.lag`: the tail, in which
   some replicas end before others, or, with a target, the wait for the problems before the last
   keeper). Neither depends on how large the pool is.
3. Engines that follow one another are a line of servers. What waits between them is bounded, by
   far more than keeps the next one busy: each is done when its work is done, or shortly after the
   one before it.

`tests/plan/test_flow.py` holds it against the full simulation.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from limo_ray.plan.counts import Outcome, PassCount, StageCount
from limo_ray.plan.events import HALT_S, simulate
from limo_ray.plan.replica import PassModel, rows_ahead
from limo_ray.plan.stop_rule_math import walk

SEEDS = 4
TOGETHER = 8  # replicas of a detailed simulation, at the most
WINDOWS = 4  # problems of each of them, in multiples of what it holds at once, at the most


@dataclass(slots=True)
class Detail:
    """A few replicas, simulated event by event."""

    rate: float
    """Tokens per second while problems were at hand, over those of full engines."""
    lag: float
    """Seconds beyond their tokens at that rate, when they work through their share."""
    last: float
    """Seconds that a single batch takes on an idle replica."""
    speculative: float
    """Attempts drawn on speculation, per replica."""


@dataclass(slots=True)
class Details:
    """What is known of a pass's replicas, for jobs that end with their work and with a target."""

    drains: list[Detail]
    stops: list[Detail]


def details_of(passes: list[PassModel], problems: int, wanted: int) -> list[Details]:
    """Watches each pass at as many problems as will come to it."""
    found, arriving = [], float(problems)
    share = math.prod(kept_share(model) for model in passes)
    needed = min(problems, wanted / share) if wanted and share else 0.0
    for model in passes:
        stops = watch(model, needed, stops=True) if needed else []
        found.append(Details(watch(model, arriving, stops=False), stops))
        arriving, needed = arriving * kept_share(model), needed * kept_share(model)
    return found


def full(model: PassModel) -> float:
    """Tokens per second of a replica with all its sequences busy."""
    return model.sequences / model.speed.step(model.sequences)


def kept_share(model: PassModel) -> float:
    """Of the problems that come to a pass, those that are alive after it."""
    gates = [i for i, stage in enumerate(model.stages) if stage.gate]
    shares = [walk(model.stages[i].rule).kept @ model.truths[i].rates for i in gates]
    return float(np.prod(shares))


def watch(model: PassModel, problems: float, stops: bool) -> list[Detail]:
    """Simulates up to TOGETHER replicas, SEEDS times.

    Args:
        problems: that all replicas will have to do.
        stops: whether a target ends the job, with more problems at hand.
    """
    held = model.batch * model.batches
    together = min(TOGETHER, model.replicas)
    share = min(WINDOWS * held, problems / model.replicas)
    few = replace(
        model, replicas=together, per_node=1.0, node_start_s=0.0, preemptions_per_hour=0.0,
        speed=replace(model.speed, start_s=0.0),
    )  # fmt: skip
    wanted = math.ceil(share * together * kept_share(model)) if stops else 0
    count = max(1, math.ceil(share * together))
    found = []
    for seed in range(SEEDS):
        if wanted:
            supply = 3 * count + 2 * held * together
            outcome = simulate([few], supply, wanted=wanted, seed=seed, account=True)
            done = outcome.passes[0]
            tokens = float(sum(stage.within_tokens for stage in done.stages))
            up, decoded = done.up, done.decoded
        else:
            outcome = simulate([few], count, seed=seed)
            done = outcome.passes[0]
            tokens = done.decoded
            up, decoded = done.dry or (0.0, 0.0)
        rate = decoded / up / full(model) if up > 0 else 1.0
        single = simulate([replace(few, replicas=1)], min(count, model.batch), seed=seed)
        found.append(
            Detail(
                rate=rate,
                lag=outcome.seconds - tokens / (rate * full(model) * together),
                last=single.seconds,
                speculative=sum(stage.speculative for stage in done.stages) / together,
            )
        )
    return found


def mean_length(model: PassModel) -> float:
    """Tokens per attempt, over all stages of a pass."""
    tokens = attempts = 0.0
    for one in per_problem(model):
        tokens += one.reach * one.tokens
        attempts += one.reach * one.attempts
    return max(1.0, tokens) / max(1e-12, attempts)


@dataclass(slots=True)
class PerProblem:
    """What a stage spends on a problem that reaches it, on the mean."""

    reach: float
    """Share of the pass's problems that reach it."""
    kept: float
    attempts: float
    variance: float
    """Of the number of attempts."""
    correct: float
    tokens: float
    token_variance: float


def per_problem(model: PassModel) -> list[PerProblem]:
    """Exact means and variances by stage."""
    found, reach = [], 1.0
    for stage, truth in zip(model.stages, model.truths, strict=True):
        path = walk(stage.rule)
        attempts = float(path.attempts @ truth.rates)
        correct = float(path.correct @ truth.rates)
        variance = float(path.squares @ truth.rates) - attempts**2
        tokens = correct * truth.correct.mean() + (attempts - correct) * truth.other.mean()
        spread = correct * truth.correct.var() + (attempts - correct) * truth.other.var()
        each = tokens / max(1e-12, attempts)
        kept = float(path.kept @ truth.rates) if stage.gate else 1.0
        found.append(
            PerProblem(
                reach, kept, attempts, variance, correct, float(tokens),
                float(spread + variance * each**2),
            )
        )  # fmt: skip
        reach *= kept
    return found


def flow(
    passes: list[PassModel], details: list[Details], central: list[PassModel], problems: int, *,
    wanted: int = 0, overlap: bool = True, rng: np.random.Generator,
) -> Outcome:  # fmt: skip
    """One future of a sampling job: as events.simulate, computed.

    Args:
        passes: with this future's truths and speeds.
        details: of each pass.
        central: the passes that the details are of.
        problems: in the pool.
    """
    share = math.prod(kept_share(model) for model in passes)
    needed = problems + 1
    if wanted and share > 0:
        needed = wanted + int(rng.negative_binomial(wanted, share))
    reached = needed <= problems
    sampled = needed if reached else problems
    kept = wanted if reached else int(rng.binomial(problems, share))

    shares, alive = [], sampled
    for model in passes:
        shares.append(float(rng.binomial(alive, kept_share(model))) / max(1, alive))
        alive = round(alive * shares[-1])
    # When is all that counts as sampled done?
    spans: list[_Span] = []
    finish = 0.0
    for place, model in enumerate(passes):
        within = sampled * math.prod(shares[:place])
        begin = 0.0 if overlap else finish
        ready = begin + model.begins_s
        # without overlap the target is looked at when only the last engine is left
        blind = not overlap and place < len(passes) - 1
        seen = details[place].stops if reached and not blind else details[place].drains
        line = _Line(model, seen, central[place], rng)
        own = problems * math.prod(shares[:place]) if blind else within
        line.happen(max(own * line.tokens / line.capacity, finish - begin), rng)
        work = own * line.tokens / line.capacity
        finish = max(finish + line.last, ready + work + line.lag)
        spans.append(_Span(line, begin, ready, finish, within, own))
    stop = finish + (HALT_S if reached else 0.0)

    # And what did engines do beyond that until then?
    last = len(passes) - 1
    until_stop = range(0 if overlap else last, last + 1) if reached else range(0)
    arriving = float(problems)
    for place, span in enumerate(spans):
        if place in until_stop:
            can = span.line.capacity * (stop - span.ready) / span.line.tokens
            span.done = max(span.within, min(arriving, can))
        arriving = span.done * shares[place]
    for place in reversed(until_stop[:-1]):
        span, next_one = spans[place], passes[place + 1]
        held = next_one.replicas * next_one.batches * next_one.batch
        taken = spans[place + 1].done / max(1e-12, shares[place]) + held
        most = taken + rows_ahead(passes[place], next_one)
        span.done = max(span.within, min(span.done, most))
    for place in until_stop:
        span = spans[place]
        own = span.ready + span.done * span.line.tokens / span.line.capacity + span.line.lag
        span.finish = stop if place else min(stop, own)
    return Outcome(stop, [_count(span, rng) for span in spans], sampled, kept, reached)


@dataclass(slots=True)
class _Span:
    """What a pass does, and from when to when."""

    line: "_Line"
    begin: float
    ready: float
    finish: float
    within: float
    """Problems that count as sampled."""
    done: float
    """Problems that it works at."""


class _Line:
    """A pass as a server: tokens per problem, tokens per second, and what is added at its end."""

    def __init__(
        self, model: PassModel, details: list[Detail], central: PassModel, rng: np.random.Generator
    ) -> None:
        self.model = model
        self.each = per_problem(model)
        self.tokens = max(1e-9, sum(stage.reach * stage.tokens for stage in self.each))
        picked = details[rng.integers(len(details))]
        slower = full(central) / full(model) * mean_length(model) / mean_length(central)
        self.lag = picked.lag * slower
        self.last = picked.last * slower
        self.speculative = picked.speculative * model.replicas
        self.rate = picked.rate * full(model)
        lengths = np.concatenate([np.append(t.correct, t.other) for t in model.truths])
        # A sequence that is cut off has a length that is drawn by its size, and is anywhere in it;
        # what has fewer than partial_tokens by then is lost.
        short = np.minimum(lengths, model.partial_tokens)
        self.lost_share = float(short.mean() / lengths.mean())
        self.lost_each = model.sequences * float((short**2).mean() / lengths.mean()) / 2
        self.often = model.preemptions_per_hour / 3600

    def happen(self, seconds: float, rng: np.random.Generator) -> None:
        """Draws how often nodes go in about so many seconds; before that it is the mean."""
        if exposure := self.model.nodes * seconds:
            self.often = rng.poisson(self.often * exposure) / exposure

    @property
    def up(self) -> float:
        """Share of the time that a replica is there: a node may go again while it starts."""
        return math.exp(-self.often * self.model.begins_s)

    @property
    def capacity(self) -> float:
        """Tokens per second of all replicas, without those that are lost."""
        kept = max(1e-9, self.rate - self.often * self.lost_each)
        return self.model.replicas * self.up * kept


def _count(span: _Span, rng: np.random.Generator) -> PassCount:
    one, model = span.line, span.line.model
    stages = []
    for stage in one.each:
        n, within = span.done * stage.reach, span.within * stage.reach
        attempts = n * stage.attempts + rng.normal() * math.sqrt(max(0.0, n * stage.variance))
        tokens = n * stage.tokens + rng.normal() * math.sqrt(n * stage.token_variance)
        stages.append(
            StageCount(
                problems=round(n), kept=round(n * stage.kept), begun=round(attempts),
                attempts=max(0, round(attempts)), correct=round(n * stage.correct),
                tokens=max(0, round(tokens)),
                within_attempts=round(within * stage.attempts),
                within_tokens=round(within * stage.tokens),
            )
        )  # fmt: skip
    extra = stages[-1]
    each = extra.tokens / max(1, extra.attempts)
    extra.speculative = round(one.speculative)
    extra.attempts += round(one.speculative)
    extra.begun += round(one.speculative)
    extra.tokens += round(one.speculative * each)
    preempted = round(model.nodes * one.often * (span.finish - span.begin))
    hit = model.together * preempted * one.up  # replicas that were there
    waiting = model.slots - model.sequences
    extra.lost = round(hit * (model.sequences * one.lost_share + waiting))
    extra.saved = round(hit * model.sequences * (1 - one.lost_share))
    decoded = float(sum(stage.tokens for stage in stages))
    up = max(0.0, span.finish - span.ready) * model.replicas
    return PassCount(
        stages, up=up, decoding=decoded / full(model) * model.sequences, decoded=decoded,
        ended=span.finish, lost_tokens=hit * one.lost_each, preemptions=preempted,
    )  # fmt: skip
