"""The training loop, as each worker runs it."""

import math
import time
from dataclasses import replace
from typing import Any

import ray.train
import torch
import torch.distributed as dist

from limo_ray.train.deepspeed import learning_rate
from limo_ray.train.divergence import DivergenceMonitor
from limo_ray.train.model import DTYPES
from limo_ray.train.tracking import Trackers
from limo_ray.train.worker import TrainingJob, Worker, matmul_peak, start


def train_loop(sent: dict[str, Any]) -> None:
    """Trains from the newest checkpoint, or the beginning, to the end; the same on all workers."""
    job: TrainingJob = sent["job"]
    job.train, job.held_out = ray.get(sent["data"])
    fit_to(job, ray.train.get_context().get_world_size())
    worker = start(job)
    worker.restore()
    config, schedule = job.config, job.layout.schedule
    trackers = Trackers(job, worker.history, first=worker.first)
    monitor = DivergenceMonitor(config.watch, [row["loss"] for row in worker.history])
    pace = Pace(worker)
    saved_for_notice = False

    if job.held_out and not worker.history:
        worker.held_out_before = worker.held_out_loss()
    trackers.begin(worker.held_out_before)
    until = job.until or schedule.steps
    for step in range(len(worker.history), until):
        torch.manual_seed(hash((config.seed, step, dist.get_rank())))  # dropout, also resumed
        chosen = schedule.batch_of(step)
        lr = learning_rate(config.optimizer, step, schedule.steps)
        loss = worker.learn(chosen)
        reason = monitor.reason_to_stop(loss, 0.0)
        norm = math.nan if reason else worker.update(lr)
        reason = reason or ("" if math.isfinite(norm) else f"the gradient norm is {norm}")
        if reason:
            trackers.stop(step + 1, reason)
            return

        last_of_epoch = (step + 1) % schedule.per_epoch == 0 or step + 1 == schedule.steps
        row = {"step": step + 1, "epoch": (step + 1) / schedule.per_epoch, "loss": loss, "lr": lr,
               "grad_norm": norm, "learned_tokens": sum(job.train[one].targets for one in chosen),
               **pace.lap(chosen)}  # fmt: skip
        if job.held_out and last_of_epoch:
            row["held_out_loss"] = worker.held_out_loss()
        by_loss = config.checkpoint.best and not config.scores
        if by_loss and _is_best(row, worker.history):
            worker.publish(f"training/{config.name}/best")
        worker.history.append(row)
        trackers.step(row)

        every = config.checkpoint.every_steps
        due = (every and (step + 1) % every == 0) or (
            config.checkpoint.every_epoch and last_of_epoch
        )
        due = due or step + 1 == until < schedule.steps  # what goes on from here is scored first
        notice = ray.train.get_preemption_info() is not None
        if (due and monitor.sound) or (notice and not saved_for_notice):
            worker.save(row)
            trackers.saved(step + 1)
        saved_for_notice = notice
        pace.skip()

    worker.publish(f"models/{config.name}", f"adapters/{config.name}")
    trackers.end()


def fit_to(job: TrainingJob, workers: int) -> None:
    """Lays the batches out for the workers that there are: maybe fewer, with workers.fewest."""
    if workers != job.config.workers.count:
        job.config = replace(job.config, workers=replace(job.config.workers, count=workers))
        job.layout = replace(job.layout, groups=workers)


def _is_best(row: dict[str, Any], history: list[dict[str, Any]]) -> bool:
    earlier = [past["held_out_loss"] for past in history if "held_out_loss" in past]
    return "held_out_loss" in row and row["held_out_loss"] < min(earlier, default=math.inf)


class Pace:
    """Tokens per second, and the share of the measured peak that the model's arithmetic reaches."""

    def __init__(self, worker: Worker) -> None:
        job = worker.job
        model = worker.engine.module.inner[0]
        self.data = job.train
        sizes = [getattr(p, "ds_numel", p.numel()) for p in model.parameters()]
        shape = model.config
        table = 0 if shape.tie_word_embeddings else shape.vocab_size * shape.hidden_size
        self.per_token = 6 * (sum(sizes) - table)  # the input table is looked up, not multiplied
        self.per_pair = 6 * shape.num_hidden_layers * shape.hidden_size  # causal: half of 12
        dtype = DTYPES[job.config.compute.precision]
        self.peak = matmul_peak(worker.engine.device, dtype) * dist.get_world_size()
        self.begun = time.perf_counter()

    def lap(self, chosen: list[int]) -> dict[str, float]:
        """Figures of the step that has just ended."""
        seconds = time.perf_counter() - self.begun
        lengths = [len(self.data[one]) for one in chosen]
        work = sum(n * self.per_token + n * n * self.per_pair for n in lengths)
        return {
            "tokens": sum(lengths),
            "seconds": seconds,
            "tokens_per_s": sum(lengths) / seconds,
            "share_of_peak": work / seconds / self.peak,
        }

    def skip(self) -> None:
        """What came after the step (evaluation, checkpoint) does not count."""
        self.begun = time.perf_counter()
