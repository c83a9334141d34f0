"""Reinforcement learning from verified rollouts: problems and a model in, a model folder out.

    problems (a curation's kept ones, or sources) with their logged pass rates
    -> engines draw groups of rollouts, the verifier judges them     <store>/attempts/
    -> the policy learns on DeepSpeed workers, checkpoints           <store>/rl/<name>/
    -> weights                                                       <store>/models/<name>/

    python jobs/rl.py conf/rl/laptop.yaml [key.path=value ...] [--dry-run]

The same command goes on after any kill, and does nothing when the training has ended.
"""

import contextlib
import shutil
import time
from pathlib import Path
from typing import Any

import ray

from limo_ray.core import config as configs
from limo_ray.core.console import say
from limo_ray.core.errors import TrainingError
from limo_ray.core.records import PROBLEM, Problem, fingerprint
from limo_ray.core.uris import redacted
from limo_ray.engines.base import EngineConfig, ray_options
from limo_ray.problems.answer_check import checked
from limo_ray.problems.sources import SourceConfig, open_sources, rows, work_items
from limo_ray.rl import publish
from limo_ray.rl.config import RLConfig
from limo_ray.rl.loop import SHOWN, Data, RLJob, rl_loop
from limo_ray.rl.rollouts import RolloutEngine
from limo_ray.runs import hub, provenance
from limo_ray.runs.heartbeat import Heartbeat
from limo_ray.runs.reader import open_run
from limo_ray.storage import model_files
from limo_ray.storage.store import Store
from limo_ray.train import memory, tracking
from limo_ray.train.checkpoints import check_resumable
from limo_ray.train.config import TrainConfig
from limo_ray.train.sft import TrainResult, fit, stop_message, trainer
from limo_ray.train.table import batch_layout

HALF = 0.5  # of a GPU, as Ray counts: engine and worker share one


class RLResult(TrainResult):
    """As of a supervised training, with figures of its own."""

    __slots__ = ()

    def summary(self) -> str:
        found = self.metrics
        lines = ["this training had ended before: nothing was done again"] if self.resumed else []
        lines.append(f"{found['steps']:,} steps, {found['rollouts']:,} rollouts, reward "
                     f"{found['first_reward']:.3f} to {found['last_reward']:.3f} (means of the "
                     f"first and last {found['window']} steps)")  # fmt: skip
        if found["held_out_before"]:
            lines.append(f"held-out accuracy {publish.band(found['held_out_before'])} before, "
                         f"{publish.band(found['held_out'])} after")  # fmt: skip
        lines += [f"  model   {self.folder}", f"  report  {self.run}/report.html"]
        return "\n".join(lines)


def reinforce(config: RLConfig, device: str) -> RLResult:
    """Runs a whole training; the same call goes on with one that was cut off.

    Args:
        config: a checked config.
        device: gpu or cpu, for engines and workers whose device is auto.

    Raises:
        ValueError: a model or problems that cannot be had.
        EngineError: an engine does not start.
        TrainingError: it diverged, kept failing, or a checkpoint does not fit the workers.
        PublishError: the hub did not take a model that was to be published.
    """
    store = Store(config.store)
    run = store.within(f"rl/{config.name}")
    data = read_data(config)
    identity = model_files.identity(config.model, config.revision)
    key = fingerprint([config.curve(), identity, [p.id for p in data.problems],
                       [p.id for p in data.held_out]])  # fmt: skip
    folder = store.within(f"models/{config.name}").shown
    if (manifest := run.read_json("manifest.json")) and manifest.get("key") == key:
        result = RLResult(folder=folder, run=run.shown, metrics=manifest["metrics"], resumed=True)
    else:
        with Heartbeat(run, "rl", config.name) as beat:
            beat.phase("training")
            result = _reinforce(config, device, store, run, data, identity, key)
    weights = store.within(f"models/{config.name}")
    hub.upload(config.publish, "model", weights, ["*"], f"reinforcement learning {config.name}")
    return result


def _reinforce(
    config: RLConfig, device: str, store: Store, run: Store, data: Data, identity: str, key: str
) -> RLResult:
    begun = time.time()
    training = config.training()
    place = device if config.workers.device == "auto" else config.workers.device
    say(shown(data))
    check_resumable(training, run.within(f"checkpoints/{key}"))
    estimate = memory_estimate(training, place)
    say(estimate.text())
    if config.share_gpu and place == "gpu":
        say(check_shared(config, estimate))
    weights = Path(config.weights) / f"limo_ray-{config.name}-{key}"
    shutil.rmtree(weights, ignore_errors=True)  # of a driver that was killed
    engines = start_engines(config, config.policy_engine(device), store)
    try:
        ray.get([engine.start.remote() for engine in engines])
        state = ray.remote(num_cpus=0)(tracking.TrainingState).remote()
        layout = batch_layout(training, training.batch.examples)
        job = RLJob(
            config=training, device=place, store=store, model=model_files.resolve(config.model)
            if "://" not in config.model else config.model,
            template="", train=[], held_out=[], layout=layout, state=state,
            rl=config, engines=engines, identity=identity, folder=str(weights),
        )  # fmt: skip
        with tracking.TrainingView(state, config.steps, SHOWN) as view:
            sent = {"job": job, "data": ray.put(data)}
            gpus = HALF if config.share_gpu else 1.0
            fit(trainer(rl_loop, sent, training, place, run, key, gpus), training)
    finally:
        _stop(engines)
        shutil.rmtree(weights, ignore_errors=True)
    if stopped := view.facts.get("stopped"):
        raise TrainingError(stop_message(stopped, view.facts, training, run, key))
    metrics = publish.metrics(view.history, view.facts, data, time.time() - begun)
    manifest = {
        "name": config.name, "status": "done", "key": key, "metrics": metrics,
        "seconds": round(time.time() - begun, 1), "machine": provenance.machine(),
        "commit": provenance.commit(), "versions": provenance.versions(publish.PACKAGES),
        "command": provenance.command(), "model": identity, "config": configs.as_dict(config),
    }  # fmt: skip
    publish.publish(store, run, config, redacted(manifest), view.history, data)
    folder = store.within(f"models/{config.name}").shown
    return RLResult(folder=folder, run=run.shown, metrics=metrics, resumed=False)


def start_engines(config: RLConfig, engine: EngineConfig, store: Store) -> list[Any]:
    """An actor for each engine. One that dies starts again and does its order again."""
    asked = ray_options(engine)
    if config.share_gpu and "num_gpus" in asked:
        asked["num_gpus"] = HALF
    actor = ray.remote(RolloutEngine).options(
        **asked, max_restarts=-1, max_task_retries=-1, max_concurrency=1
    )
    return [actor.remote(config, engine, store) for _ in range(engine.min_replicas)]


def _stop(engines: list[Any]) -> None:
    with contextlib.suppress(ray.exceptions.RayError):  # its processes end with the actor
        ray.get([engine.stop.remote() for engine in engines], timeout=30)
    for engine in engines:
        ray.kill(engine)


def read_data(config: RLConfig) -> Data:
    """Problems, what is known of them, and held-out ones.

    Raises ValueError where there are none, or a run or source cannot be had.
    """
    known: dict[str, tuple[float, float]] = {}
    if config.run:
        try:
            table = open_run(config.run).table("problems")
        except OSError as error:
            raise ValueError(f"run: {error}") from None
        found = table.to_pylist()
        known = {row["id"]: (row["correct"], row["finished"]) for row in found}
        problems = [Problem(**{name: row[name] for name in PROBLEM.names}) for row in found]
    else:
        problems = _problems(config.sources, config.seed)
    held_out = _problems(config.held_out.sources, config.seed)
    kept_out = {each.id for each in held_out}
    problems = [each for each in problems if each.id not in kept_out]
    if len(problems) < config.rollouts.problems:
        raise ValueError(
            f"rollouts.problems: {config.rollouts.problems} groups of a step, and the pool has "
            f"{len(problems)} problems"
        )
    return Data(problems=problems, known=known, held_out=held_out)


def _problems(sources: list[SourceConfig], seed: int) -> list[Problem]:
    """The problems of sources whose gold answers the verifier takes, each once."""
    opened = open_sources(sources, seed)
    found = {}
    for item in work_items(opened):
        for row in rows(opened, item):
            if row["reason"] is None:
                found[row["id"]] = Problem(**{name: row[name] for name in PROBLEM.names})
    problems = list(found.values())
    refused = checked([(each.answer, each.domain) for each in problems])
    return [each for each, why in zip(problems, refused, strict=True) if why is None]


def memory_estimate(training: TrainConfig, device: str) -> memory.MemoryEstimate:
    """Of the workers, for forward passes as full as they can be; engines come beside."""
    return memory.estimate(training, device, training.pack_tokens)


def check_shared(config: RLConfig, estimate: memory.MemoryEstimate) -> str:
    """What one GPU holds while the engine draws, in a line. Raises ValueError when it is too much.

    The worker then has its parameters and optimizer states; the rest comes when the engine sleeps.
    """
    parts = [estimate.device[name] for name in ("parameters", "optimizer states")]
    worker, whole = sum(parts) / memory.GIB, config.workers.gpu_gib
    share = config.engine.gpu_memory
    if share * whole + worker > whole:
        raise ValueError(
            f"engine.gpu_memory: {share:g} of {whole:g} GiB and the worker's {worker:.1f} GiB of "
            f"parameters and states do not fit one GPU: give at most "
            f"{max(0.0, 1 - worker / whole):.2f}"
        )
    return (f"while rollouts are drawn  {share * whole:.1f} GiB for the engine, {worker:.1f} for "
            f"the worker, of {whole:g}")  # fmt: skip


def shown(data: Data) -> str:
    """Problems, and how many of them have logged attempts."""
    known = sum(finished > 0 for _, finished in data.known.values())
    return (f"problems  {len(data.problems):,}, {known:,} with a pass rate\n"
            f"held out  {len(data.held_out):,}")  # fmt: skip


def outline(config: RLConfig, device: str) -> str:
    """What a training would do: problems, rollouts, memory. Loads no weights."""
    engine = config.policy_engine(device)
    rollouts, choice = config.rollouts, config.choice
    try:
        lines = [shown(read_data(config))]
    except ValueError as error:  # the plan is also for a machine that has no data
        lines = [f"problems not read: {error}"]
    probe = f"given up after {choice.probe} equal rewards" if choice.probe else "drawn whole"
    lines += [
        f"steps     {config.steps:,} of {rollouts.problems} groups of {rollouts.size} rollouts, "
        f"{probe}, at most {rollouts.problems * choice.most_tried} problems tried",
        f"engines   {engine.min_replicas} on {engine.device}, {engine.dtype}, "
        + (f"{engine.gpu_memory:.0%} of a GPU's memory" if engine.device == "gpu"
           else f"{engine.kv_cache_gib} GiB for the KV cache beside the weights"),
    ]  # fmt: skip
    place = device if config.workers.device == "auto" else config.workers.device
    if place == engine.device == "gpu":
        count = engine.min_replicas * engine.tensor_parallel * engine.pipeline_parallel
        lines.append("GPUs      1, for the worker and the engine in turn" if config.share_gpu else
                     f"GPUs      {config.workers.count} for workers and {count} for engines: they "
                     "share none")  # fmt: skip
    try:
        estimate = memory_estimate(config.training(), place)
        lines.append(estimate.text())
        if config.share_gpu and place == "gpu":
            lines.append(check_shared(config, estimate))
    except ValueError as error:
        lines.append(f"memory not estimated: {error}")
    lines.append(f"output    {Store(config.store).shown}/models/{config.name}")
    return "\n".join(lines)
