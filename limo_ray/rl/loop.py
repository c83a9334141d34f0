"""The loop, as each worker runs it: weights out, rollouts in, update, again.

    weights of step k -> engines -> rollouts -> advantages -> update -> weights of step k + 1

The first worker asks the engines; the others get what came. Everything that a resumed training
needs is in the checkpoint: policy and optimizer, and a row for each step, with the outcome of each
group, from which the pass rates follow. Choices depend on seed and step.
"""

import dataclasses
import os
import shutil
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import torch
import torch.distributed as dist

from limo_ray.core.records import Problem
from limo_ray.engines.weight_sum import bit_sum
from limo_ray.evaluate.metrics import pass_at_1
from limo_ray.rl.choice import PassRates
from limo_ray.rl.config import RLConfig
from limo_ray.rl.policy import FIGURES, Learner, PolicyModel, batch_of, shares
from limo_ray.rl.rollouts import Drawn, Group, Order
from limo_ray.sampling.stages import sampling_fingerprint
from limo_ray.train import model as models
from limo_ray.train.deepspeed import learning_rate
from limo_ray.train.divergence import DivergenceMonitor
from limo_ray.train.tracking import Trackers
from limo_ray.train.worker import TrainingJob, Worker, start

WATCHED = "gradient norm"
SHOWN = (
    "reward", "reward_std", "held_out", "tokens", "entropy", *FIGURES[:4], "carried", "truncated",
    "looped", "lr", "grad_norm", "draw_s", "learn_s",
)  # fmt: skip


@dataclass(kw_only=True)
class RLJob(TrainingJob):
    """What the driver sends the workers; of TrainingJob, train and held_out stay empty."""

    rl: RLConfig
    engines: list[Any]
    """Handles of RolloutEngine actors; they outlive workers."""
    identity: str
    """Of the model that training begins with, as other attempts have it."""
    folder: str
    """Of the weights of each step; workers and engines see it."""


@dataclass(kw_only=True, slots=True)
class Data:
    """The problems."""

    problems: list[Problem]
    known: dict[str, tuple[float, float]]
    """Correct and finished attempts from before, by problem id."""
    held_out: list[Problem]


@dataclass(kw_only=True, slots=True)
class Weights:
    """The weights after a number of steps, as engines find them."""

    folder: str
    size: int
    """Elements of all parameters."""
    bits: int
    """Their bit sum (limo_ray.engines.weight_sum)."""
    fingerprint: str


def rl_loop(sent: dict[str, Any]) -> None:
    """Trains from the newest checkpoint, or the beginning, to the end; the same on all workers."""
    job: RLJob = sent["job"]
    config = job.rl
    if job.device == "cpu":  # engines and workers take turns: each has all cores
        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(max(1, cores // job.config.workers.count))
    temperature = config.sampling.temperature
    worker = start(job, partial(PolicyModel, temperature=temperature))
    worker.restore()
    reference = None
    if config.loss.kl:
        kind = partial(PolicyModel, temperature=temperature)
        reference = models.load(job.model, job.config, None, kind).to(worker.engine.device).eval()
    loop = Loop(worker, ray.get(sent["data"]), reference)
    trackers = Trackers(job, worker.history, first=worker.first, folder="rl", shown=SHOWN)
    monitor = DivergenceMonitor(
        config.watch, [row["grad_norm"] for row in worker.history if row["learned"]], WATCHED
    )
    if config.held_out.sources and worker.held_out_before is None:
        worker.held_out_before = loop.held_out(0)  # type: ignore[assignment]
    if worker.first and worker.held_out_before is not None:
        ray.get(job.state.fact.remote("held_out_before", worker.held_out_before))
    trackers.begin(None)
    for step in range(len(worker.history), config.steps):
        row = loop.step(step)
        if row["learned"] and (reason := monitor.reason_to_stop(row["grad_norm"], row["loss"])):
            trackers.stop(step + 1, reason)
            return
        if config.held_out.sources and (
            (step + 1) % config.held_out.every_steps == 0 or step + 1 == config.steps
        ):
            score = loop.held_out(step + 1)
            row |= {"held_out": score["value"], "held_out_score": score}
        worker.history.append(row)
        trackers.step(row)
        every = config.checkpoint.every_steps
        notice = ray.train.get_preemption_info() is not None
        if ((every and (step + 1) % every == 0) or notice) and monitor.sound:
            worker.save({"reward": row["reward"]})
            trackers.saved(step + 1)
    worker.publish(f"models/{config.name}")
    trackers.end()


class Loop:
    """One worker's steps; every method is a collective call."""

    def __init__(self, worker: Worker, data: Data, reference: Any) -> None:
        self.worker = worker
        self.job: RLJob = worker.job  # type: ignore[assignment]
        self.config = self.job.rl
        self.data = data
        self.learner = Learner(worker, self.config.loss, self.config.sampling.max_tokens, reference)
        self.rates = PassRates([each.id for each in data.problems], data.known, self.config.choice)
        for row in worker.history:
            self.rates.observe(map(tuple, row["groups"]))
        self.weights = self._write(len(worker.history))
        self.asked: list[Any] | None = None  # what the engines will give

    def step(self, step: int) -> dict[str, Any]:
        """Rollouts and updates of one step; returns its row of the history."""
        begun = time.perf_counter()
        size = self.config.rollouts.size
        if self.asked is None:
            self.asked = self._ask(step)
        expected = self.rates.carrying(size)
        drawn = self._drawn(self.asked)
        groups = [group for each in drawn for group in each.groups]
        self.rates.observe(group.outcome() for group in groups)
        stale = self.config.rollouts.max_staleness > 0 and step + 1 < self.config.steps
        self.asked = self._ask(step + 1) if stale else None
        drawn_at = time.perf_counter()

        lr = learning_rate(self.config.optimizer, step, self.config.steps)
        learned = self._learn(groups, lr)
        self.weights = self._write(step + 1)
        places = [self.rates.place[group.problem_id] for group in groups]
        ended = time.perf_counter()
        return {
            "step": step + 1,
            "epoch": (sum(len(row["groups"]) for row in self.worker.history) + len(groups))
            / len(self.data.problems),
            **figures(groups, self.config), **learned, "lr": lr,
            "uniform_expected": float(expected.mean()),
            "whole_expected": float(expected[places].mean()),
            "new": sum(each.new for each in drawn),
            "draw_s": drawn_at - begun, "learn_s": ended - drawn_at, "seconds": ended - begun,
            "groups": [list(group.outcome()) for group in groups],
        }  # fmt: skip

    def _ask(self, step: int) -> list[Any]:
        """Sends a step's order to every engine; on other workers than the first nothing."""
        if not self.worker.first:
            return []
        wanted, engines = self.config.rollouts.problems, self.job.engines
        count = wanted * self.config.choice.most_tried
        queue = self.rates.queue(self.config.rollouts.size, count, (self.config.seed, step))
        asked = []
        for place, engine in enumerate(engines):
            order = self._order(f"{step:06d}", [self.data.problems[n]
                                                for n in queue[place :: len(engines)]])  # fmt: skip
            order.groups = len(range(place, wanted, len(engines)))
            order.rollouts, order.probe = self.config.rollouts.size, self.config.choice.probe
            asked.append(engine.draw.remote(order))
        return asked

    def _order(self, part: str, problems: list[Problem]) -> Order:
        return Order(
            fingerprint=self.weights.fingerprint, part=part, weights=self.weights.folder,
            size=self.weights.size, bits=self.weights.bits, problems=problems,
        )  # fmt: skip

    def _drawn(self, asked: list[Any]) -> list[Drawn]:
        """What the engines drew, on every worker."""
        found = [ray.get(asked) if self.worker.first else None]
        dist.broadcast_object_list(found, src=0, device=self.worker.engine.device)
        return found[0] or []

    def _learn(self, groups: list[Group], lr: float) -> dict[str, Any]:
        """The step's updates; without a group that has variance there is none."""
        batch = batch_of(groups, self.config)
        updates = shares(batch, self.config.rollouts.updates)
        drawn = sum(len(group.rollouts) for group in groups)
        found: dict[str, Any] = {"learned": len(batch.tokens), "loss": 0.0, "grad_norm": 0.0,
                                 "carried": len(batch.tokens) / max(1, drawn)}  # fmt: skip
        if not updates:
            return found
        old = [self.learner.logprobs(batch, chosen) if number else None
               for number, chosen in enumerate(updates)]  # fmt: skip
        rows = []
        for chosen, before in zip(updates, old, strict=True):
            loss, shown = self.learner.learn(batch, chosen, before)
            rows.append({"loss": loss, "grad_norm": self.worker.update(lr), **shown})
        return found | {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}

    def held_out(self, step: int) -> dict[str, Any]:
        """The score on held-out problems of the weights after so many steps, as `Score`'s fields.

        Attempts are drawn as rollouts are, and logged under the weights.
        """
        problems, engines = self.data.held_out, self.job.engines
        asked = []
        for place, engine in enumerate(engines if self.worker.first else []):
            order = self._order(f"held-out-{step:06d}", problems[place :: len(engines)])
            order.groups, order.rollouts = len(order.problems), self.config.held_out.attempts
            asked.append(engine.draw.remote(order))
        groups = [group for each in self._drawn(asked) for group in each.groups]
        outcomes = [group.outcome() for group in groups]
        counts = np.array([len(group.rollouts) for group in groups])
        return dataclasses.asdict(pass_at_1(np.array([right for _, right, _ in outcomes]), counts))

    def _write(self, step: int) -> Weights:
        """Writes the weights for the engines, where the next step finds them."""
        weights = self.worker.weights()
        made = [None]
        if self.worker.first:
            assert weights is not None
            made = [self._publish(step, weights)]
        dist.broadcast_object_list(made, src=0, device=self.worker.engine.device)
        assert made[0] is not None
        if self.config.share_gpu and self.job.device == "gpu":
            torch.cuda.empty_cache()  # what the engine needs when it wakes
        return made[0]

    def _publish(self, step: int, weights: dict[str, torch.Tensor]) -> Any:
        from safetensors.torch import save_file

        root = Path(self.job.folder)
        folder = root / f"step_{step:06d}"
        shutil.rmtree(folder, ignore_errors=True)  # of a worker that was killed
        folder.mkdir(parents=True)
        save_file({name: value.contiguous() for name, value in weights.items()},
                  folder / "model.safetensors")  # fmt: skip
        for old in sorted(root.glob("step_*"))[:-2]:  # one step of staleness needs the last two
            shutil.rmtree(old, ignore_errors=True)
        size, bits = bit_sum(weights.values())
        own = self.job.identity if step == 0 else f"{self.job.identity}+{bits:016x}"
        fingerprint = sampling_fingerprint(
            own, self.config.system, self.config.compute.precision,
            self.config.engine.max_model_len, self.config.sampling,
        )  # fmt: skip
        return Weights(folder=str(folder), size=size, bits=bits, fingerprint=fingerprint)


def figures(groups: list[Group], config: RLConfig) -> dict[str, float]:
    """Reward and lengths of a step. Pure.

    The reward is the mean over tried problems of their first rollouts, as many for each: those of
    groups that were drawn whole say too little of problems that are always or never solved.
    """
    first = config.choice.probe or config.rollouts.size
    rewards = [
        [each.reward for each in group.rollouts[:first] if each.reward is not None]
        for group in groups
    ]
    means = [sum(each) / len(each) for each in rewards if each]
    spread = [float(np.std(each)) for each in rewards if each]
    rollouts = [each for group in groups for each in group.rollouts]
    count = max(1, len(rollouts))
    ends = [each.attempt.finish_reason for each in rollouts]
    return {
        "reward": sum(means) / max(1, len(means)),
        "reward_std": sum(spread) / max(1, len(spread)),
        "correct": sum(group.outcome()[1] for group in groups) / count,
        "tokens": sum(len(each.tokens) for each in rollouts) / count,
        "truncated": ends.count("length") / count, "looped": ends.count("loop") / count,
        "rollouts": len(rollouts),
        "tried": len(groups), "mixed": sum(group.mixed for group in groups),
    }  # fmt: skip
