"""How long a replica takes for its problems, and for the last of them: the tail.

The scheduler gives free slots to the earliest problem that has room: a problem, once begun, goes
on without waiting, as long as its stop rule and its completions make it (`chains` samples that).
While problems are at hand all slots are busy. Once the last one has begun, slots run empty as those
in flight end; each of them is then at a random moment of its chain (`drain`).

Arrays end in (..., trials). A tick is one token of each sequence.
"""

import numpy as np

from limo_ray.plan.assumptions import LENGTHS, EngineSpeed, StageSamples
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.stop_rule import StopRule
from limo_ray.sampling.stop_rule_math import RATES

CHAINS = 256  # sampled problems in each trial
WORK = 2e9  # elements that `chains` goes through, at the most


def chains(
    stages: list[Stage], samples: list[StageSamples], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Samples problems through the stages of a pass, as if all slots were theirs.

    Returns:
        (CHAINS, trials) each: ticks from the first attempt to the last decision, and tokens.
    """
    trials = samples[0].rates.shape[1]
    budget = max(stage.rule.budget for stage in stages)
    count = int(np.clip(WORK / (trials * budget**2), 32, CHAINS))
    ticks, tokens, alive = np.zeros((3, count, trials))
    alive += 1
    for stage, sample in zip(stages, samples, strict=True):
        chances = (np.arange(count) + 0.5) / count
        classes = [np.searchsorted(column, chances) for column in sample.rates.cumsum(axis=0).T]
        rates = RATES[np.minimum(np.stack(classes, axis=1), len(RATES) - 1)]
        longer, more, kept = _attempts(stage.rule, rng.permuted(rates, axis=0), sample, rng)
        ticks += alive * longer
        tokens += alive * more
        if stage.gate:
            alive *= kept
    return np.maximum(ticks, 1), np.maximum(tokens, 1)


def _attempts(
    rule: StopRule, rates: np.ndarray, sample: StageSamples, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ticks, tokens and whether it is kept, for a problem of each pass rate (CHAINS, trials).

    Attempts start as `StopRule.room` allows, and their verdicts come in the order of their ends.
    """
    upto = range(rule.budget + 1)
    needed = np.array([[rule.needed(min(c, f), f) for c in upto] for f in upto])
    shape = (max(1, int(needed.max())), *rates.shape)  # first axis: attempts in flight
    ends, correct = np.full(shape, np.inf), np.zeros(shape, bool)
    ticks, tokens = np.zeros((2, *rates.shape))
    solved, finished = np.zeros((2, *rates.shape), int)
    trial = np.arange(rates.shape[1])
    for _ in range(rule.budget):
        free = np.isinf(ends)
        room = needed[finished, solved] - (~free).sum(axis=0)
        new = free & (free.cumsum(axis=0) <= room)
        success = rng.random(shape) < rates
        chosen = rng.integers(LENGTHS, size=shape)
        length = np.where(success, sample.correct[chosen, trial], sample.other[chosen, trial])
        ends, correct = np.where(new, ticks + length, ends), np.where(new, success, correct)
        tokens += (length * new).sum(axis=0)
        first = ends.argmin(axis=0)[None]
        end = np.take_along_axis(ends, first, axis=0)[0]
        ended = np.isfinite(end)
        solved += ended & np.take_along_axis(correct, first, axis=0)[0]
        finished += ended
        ticks = np.where(ended, end, ticks)
        np.put_along_axis(ends, first, np.inf, axis=0)
    return ticks, tokens, (solved >= rule.keep_min) & (solved <= rule.keep_max)


def drain(
    ticks: np.ndarray, tokens: np.ndarray, problems: np.ndarray, available: np.ndarray,
    slots: np.ndarray, speed: EngineSpeed, replicas: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Works through problems.

    Args:
        ticks, tokens: of the chains.
        problems: (trials,) of each replica.
        available: (trials,) the same with those that may follow and keep slots busy in the tail.
        slots: (trials,) sequences that a replica keeps busy while problems are at hand.

    Returns:
        (trials,) each: seconds until the last problem begins, with all slots busy, and from then
        until all problems are decided on the slowest replica.
    """
    parallel = tokens / ticks
    wanted = problems * parallel.mean(axis=0)  # slots for all problems at once
    busy = np.minimum(slots, wanted)
    begun = full = problems * tokens.mean(axis=0) / slots
    for _ in range(20):  # what is left when the last one begins depends on that moment itself
        age = np.minimum(ticks, np.maximum(begun, 1e-3))  # oldest that may be in flight then
        weight = parallel * age
        left = (weight * (ticks - age / 2)).sum(axis=0) / weight.sum(axis=0)
        begun = np.where(wanted > slots, np.maximum(0, full - left), 0)
    moments = (np.arange(len(ticks)) + 0.5)[:, None] / len(ticks)
    rest = ticks - age * moments  # of those in flight, each at a random moment of its chain
    order = rest.argsort(axis=0)
    rest = np.take_along_axis(rest, order, axis=0)
    weight, age = (np.take_along_axis(each, order, axis=0) for each in (weight, age))
    # between the ends of two of them: slots still busy, and whether any replica still works
    active = busy * (1 - (weight.cumsum(axis=0) - weight) / weight.sum(axis=0))
    over = (age.cumsum(axis=0) - age) / age.sum(axis=0)
    works = 1 - over ** (replicas * busy * age.sum(axis=0) / weight.sum(axis=0))
    occupied = np.where(
        available > problems,
        np.minimum(slots, available * parallel.mean(axis=0)),
        np.maximum(active, np.minimum(1, busy)),
    )
    tail_s = (speed.step(occupied) * works * np.diff(rest, axis=0, prepend=0)).sum(axis=0)
    return begun * speed.step(slots), tail_s
