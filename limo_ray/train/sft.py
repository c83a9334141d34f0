"""Supervised fine-tuning: examples in, a Hugging Face model folder out.

    examples -> chats -> tokens, learned ones marked -> global batches
    -> workers (DeepSpeed under Ray Train), checkpoints    <store>/training/<name>/
    -> consolidated weights                                <store>/models/<name>/

The same command goes on from the newest checkpoint, and does nothing when the training has ended.
"""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
from ray.train import (
    CheckpointConfig,
    FailureConfig,
    LoggingConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
)
from ray.train.torch import TorchConfig, TorchTrainer

from limo_ray.core import config as configs
from limo_ray.core.console import say
from limo_ray.core.errors import TrainingError, reason
from limo_ray.core.records import fingerprint
from limo_ray.core.text import first_line
from limo_ray.core.uris import redacted
from limo_ray.problems import chats
from limo_ray.runs import hub, provenance
from limo_ray.runs.heartbeat import Heartbeat
from limo_ray.storage import model_files
from limo_ray.storage.store import Store
from limo_ray.train import adapters, memory, results, scores, tracking
from limo_ray.train import model as models
from limo_ray.train.config import TrainConfig
from limo_ray.train.loop import train_loop
from limo_ray.train.table import TrainingData, batch_layout, demand, prepare, table
from limo_ray.train.tokens import Encoder
from limo_ray.train.worker import TrainingJob

log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class TrainResult:
    folder: str
    """The model."""
    run: str
    """Where report, metrics, TensorBoard files and checkpoints lie."""
    metrics: dict[str, Any]
    resumed: bool
    """True when the training had ended before and nothing was done again."""

    def summary(self) -> str:
        found = self.metrics
        held = ""
        if found.get("held_out_before") is not None and found.get("held_out_loss") is not None:
            held = f", held-out loss {found['held_out_before']:.3f} to {found['held_out_loss']:.3f}"
        lines = ["this training had ended before: nothing was done again"] if self.resumed else []
        losses = f"{found['first_loss']:.3f} to {found['loss']:.3f}"
        lines += [
            f"{found['steps']:,} steps, loss {losses}{held}",
            f"  model   {self.folder}",
            f"  report  {self.run}/report.html",
        ]
        return "\n".join(lines)


def train(config: TrainConfig, device: str, evaluate: scores.Evaluate | None = None) -> TrainResult:
    """Runs a whole training; the same call resumes one that was cut off.

    Args:
        config: a checked config.
        device: gpu or cpu, for workers whose device is auto.
        evaluate: scores a model folder; needed for `scores` (study.training has it).

    Raises:
        ValueError: a model or data that cannot be had or trained.
        TrainingError: it diverged, kept failing, or a checkpoint does not fit the workers.
        PublishError: the hub did not take a model that was to be published.
    """
    device = device if config.workers.device == "auto" else config.workers.device
    store = Store(config.store)
    run = store.within(f"training/{config.name}")
    model, data = load_data(config)
    key = run_key(config, data)
    if (manifest := run.read_json("manifest.json")) and manifest.get("key") == key:
        folder = store.within(f"models/{config.name}").shown
        result = TrainResult(
            folder=folder, run=run.shown, metrics=manifest["metrics"], resumed=True
        )  # fmt: skip
    else:
        with Heartbeat(run, "train", config.name) as beat:
            result = _train(config, device, store, run, model, data, key, beat, evaluate)
    weights = store.within(f"models/{config.name}")
    hub.upload(config.publish, "model", weights, ["*"], f"training {config.name}")
    return result


def _train(
    config: TrainConfig, device: str, store: Store, run: Store, model: str, data: TrainingData,
    key: str, beat: Heartbeat, evaluate: scores.Evaluate | None,
) -> TrainResult:  # fmt: skip
    begun = time.time()
    adapters.check_installed(config.lora)
    layout = batch_layout(config, len(data.train), data.targets)
    shown = table(data, layout)
    say(_lines("data", shown))
    estimate = memory.estimate(config, device, *demand(data, layout))
    say(estimate.text())

    state = ray.remote(num_cpus=0)(tracking.TrainingState).remote()
    job = TrainingJob(
        config=config, device=device, store=store,
        model=config.model if "://" in config.model else model,
        template=_template(config), train=[], held_out=[], layout=layout, state=state,
    )  # fmt: skip
    sent = {"job": job, "data": ray.put((data.train, data.held_out))}
    board = scores.Scores(config, store, layout.schedule, key, evaluate)
    for job.until in board.ends():
        beat.phase("training")
        with tracking.TrainingView(state, layout.schedule.steps) as view:
            fit(trainer(train_loop, sent, config, device, run, key), config)
        if stopped := view.facts.get("stopped"):
            raise TrainingError(stop_message(stopped, view.facts, config, run, key))
        beat.phase("evaluating the student")
        board.add(job.until)
    metrics = results.metrics(view.history, view.facts, data, time.time() - begun)
    metrics |= board.metrics()
    manifest = {
        "name": config.name, "status": "done", "key": key, "metrics": metrics,
        "seconds": round(time.time() - begun, 1), "machine": provenance.machine(),
        "commit": provenance.commit(),
        "versions": provenance.versions(results.PACKAGES), "command": provenance.command(),
        "model": model_files.identity(config.model, config.revision),
        "config": configs.as_dict(config), "data": shown,
        "memory": asdict(estimate),
    }  # fmt: skip
    results.publish(store, run, config, redacted(manifest), view.history)
    folder = store.within(f"models/{config.name}").shown
    return TrainResult(folder=folder, run=run.shown, metrics=metrics, resumed=False)


def load_data(config: TrainConfig) -> tuple[str, TrainingData]:
    """The model's folder or hub id, and the encoded data; ValueError for what cannot be had."""
    from transformers import AutoConfig, AutoTokenizer

    model = model_files.resolve(config.model, weights=False)
    try:
        pinned = {"revision": config.revision or None}
        models.refuse(AutoConfig.from_pretrained(model, **pinned), config)
        tokenizer = AutoTokenizer.from_pretrained(model, **pinned)
    except OSError as error:
        why = first_line(error) + model_files.revision_hint(config.revision)
        raise ValueError(f"model: {config.model!r}: {why}") from None
    encoder = Encoder(tokenizer, _template(config), config.rows.turns)
    rows = chats.chats(config.data, config.rows)
    return model, prepare(rows, encoder, config.rows, config.seed)


def run_key(config: TrainConfig, data: TrainingData) -> str:
    """Changes whenever the loss curve would: a run with the same key goes on, others start anew."""
    import hashlib

    digest = hashlib.sha256()
    for one in [*data.train, *data.held_out]:
        digest.update(one.ids.tobytes() + one.learn.tobytes())
    return fingerprint(
        [config.curve(), model_files.identity(config.model, config.revision), digest.hexdigest()]
    )


def _template(config: TrainConfig) -> str:
    if not config.rows.template:
        return ""
    file = Path(config.rows.template)
    if not file.is_file():
        raise ValueError(f"rows.template: {config.rows.template!r} is no file")
    return file.read_text()


def trainer(
    loop: Callable[[dict[str, Any]], None], sent: dict[str, Any], config: TrainConfig, device: str,
    run: Store, key: str, gpus: float = 1.0,
) -> TorchTrainer:  # fmt: skip
    """A Ray Train job that runs `loop(sent)` on every worker, checkpoints in <run>/checkpoints.

    `gpus` of each worker; below 1, it shares one with others.
    """
    workers = config.workers
    each = {"CPU": workers.cpus} | ({"GPU": gpus} if device == "gpu" else {})
    storage = run.within("checkpoints")
    return TorchTrainer(
        loop,
        train_loop_config=sent,
        torch_config=TorchConfig(backend="nccl" if device == "gpu" else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=(workers.fewest, workers.count) if workers.fewest else workers.count,  # type: ignore[arg-type]
            use_gpu=device == "gpu",
            resources_per_worker=each,
            label_selector=dict(workers.labels) or None,  # type: ignore[call-arg]
        ),
        run_config=RunConfig(
            name=key,
            storage_path=storage.path(""),
            storage_filesystem=storage.filesystem,
            logging_config=LoggingConfig("ERROR"),  # type: ignore[call-arg]
            failure_config=FailureConfig(max_failures=workers.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=config.checkpoint.keep),
        ),
    )


def fit(trainer: TorchTrainer, config: TrainConfig) -> None:
    """Runs it; TrainingError in one line when it ends badly.

    Ray Train would wait without end for workers that the cluster cannot have.
    """
    have = ray.cluster_resources()
    key = "fewest" if config.workers.fewest else "count"
    fewest = getattr(config.workers, key)
    needed = fewest * config.workers.cpus
    if not os.environ.get("RAY_ADDRESS") and have.get("CPU", 0) < needed:
        raise TrainingError(
            f"workers.{key}: {fewest} workers of {config.workers.cpus:g} CPU(s) do not fit "
            f"{have.get('CPU', 0):g} CPU(s): give fewer, or workers.cpus below 1"
        )
    # how often reports are collected: a checkpoint waits for the next time
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise TrainingError(reason(error)) from error


def stop_message(
    stopped: dict[str, Any], facts: dict[str, Any], config: TrainConfig, run: Store, key: str
) -> str:
    """Why a training stopped, and the checkpoint to go back to, in one line."""
    # a checkpoint is good when a later step's loss was still sound: its own update is not yet seen
    kept = facts.get("checkpoints", [])[-config.checkpoint.keep :]
    good = max((step for step in kept if step < stopped["step"] - 1), default=0)
    name = f"the last good checkpoint is {run.shown}/checkpoints/{key}/step_{good:06d}"
    where = name if good else "there is no good checkpoint yet"
    return (
        f"stopped at step {stopped['step']}: {stopped['why']}; {where}; a lower optimizer.lr "
        f"(now {config.optimizer.lr:g}) is what helps most often"
    )


def outline(config: TrainConfig, device: str) -> str:
    """What a training would do: memory, and the data where it can be had. Loads no weights."""
    device = device if config.workers.device == "auto" else config.workers.device
    rows = 1 if config.batch.packing else config.batch.micro_examples
    tokens = config.pack_tokens if config.batch.packing else rows * config.rows.max_tokens
    passes = 2
    try:
        _, data = load_data(config)
    except ValueError as error:  # the plan is also for a machine that has no data
        lines = [f"data not read: {error}", f"memory for {tokens:,} tokens in a forward pass"]
    else:
        found = batch_layout(config, len(data.train), data.targets)
        tokens, passes = demand(data, found)
        lines = [_lines("data", table(data, found))]
    try:
        lines.append(memory.estimate(config, device, tokens, passes).text())
    except ValueError as error:  # or no model
        lines.append(f"memory not estimated: {error}")
    lines.append(f"output  {Store(config.store).shown}/models/{config.name}")
    return "\n".join(lines)


def _lines(title: str, rows: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join([title, *(f"  {name:<{width}}  {value}" for name, value in rows)])
