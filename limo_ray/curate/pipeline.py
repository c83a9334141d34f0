"""A curation, as the paper's method section tells it (arXiv 2502.03387v3, section 3).

    problem pool -> filters, gold check, decontamination
    -> exact and near-duplicates                         <run>/pool/*.parquet
    -> weak model, strong model, teachers                <store>/attempts/, <run>/decided/*.parquet
    -> verified chains -> quality score -> selection     <run>/examples.parquet, ...

Steps that are done are not repeated: the pool is kept while its settings stay the same, attempts
are never drawn twice, and what follows from them takes seconds.
"""

import json
import logging
import time
from collections import Counter
from dataclasses import asdict
from typing import Any

from limo_ray import verify
from limo_ray.core import config as configs
from limo_ray.core.records import fingerprint
from limo_ray.curate import ledger, outputs, read_step
from limo_ray.curate import pool as pools
from limo_ray.curate.chains import collect, group_of
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.difficulty import Sampled, draw, passes
from limo_ray.curate.quality import score
from limo_ray.curate.select import select
from limo_ray.problems.sources import open_sources, signature
from limo_ray.runs.heartbeat import Heartbeat
from limo_ray.storage.store import Store

log = logging.getLogger(__name__)


def curate(config: CurateConfig, device: str) -> outputs.RunResult:
    """Runs the whole curation; the same call resumes one that was cut off.

    Args:
        config: a checked config.
        device: gpu or cpu, for engines whose device is auto.

    Raises:
        ValueError: a source or model that cannot be had.
        EngineError: an engine that does not start or keeps dying.
        VerificationError: too many verdicts are TIMEOUT or ERROR to trust a selection.
    """
    started = time.time()
    store = Store(config.store)
    run = store.within(f"runs/{config.name}")
    seconds = {}

    key = fingerprint([configs.as_dict(config), device, _pool_key(config), verify.VERSION])
    if result := outputs.finished(run, key):
        return result

    with Heartbeat(run, "curate", config.name) as beat:
        beat.phase("pool")
        lap = time.time()
        pool = ingest(config, run)
        seconds["pool"] = time.time() - lap

        beat.phase("sampling")
        sampled = draw(pool, run, store, config, device)
        seconds["sampling"] = sampled.seconds

        beat.phase("selection")
        lap = time.time()
        group_by = "" if config.difficulty.per == "all" else config.difficulty.per
        problems = ledger.kept_problems(run, sampled.cutoffs, group_by)
        chains = candidates(problems, sampled, store, config)
        selected = select(chains, config.selection)
        seconds["selection"] = time.time() - lap
        return outputs.publish(
            run, store, config, key, device, started, seconds, sampled, problems, chains, selected
        )


def ingest(config: CurateConfig, run: Store) -> Store:
    """The pool, each row with its place in the seeded order, dropped ones with their reason."""
    key = _pool_key(config)
    pool, work = run.within("pool"), run.within("pool-work")
    if (run.read_json("pool.json") or {}).get("key") == key:
        return pool
    opened = open_sources(config.sources, config.seed)
    if (work.read_json("key.json") or {}).get("key") != key:
        run.delete("pool.json")
        run.delete("pool")
        run.delete("pool-work")
        work.write_json("key.json", {"key": key, "buckets": read_step.bucket_count(opened)})
    items, missing = read_step.to_keep_out(config)
    buckets = work.read_json("key.json")["buckets"]
    seconds = pools.build(read_step.pool_settings(config, opened, items, buckets), work, pool)
    kept_out = Counter(item.benchmark for item in items)
    facts = {"seconds": seconds, "kept_out": kept_out, "missing": missing}
    run.write_json("pool.json", {"key": key, **facts})
    run.delete("pool-work")
    return pool


def _pool_key(config: CurateConfig) -> str:
    """Changes whenever the pool would: settings, source files, code that makes or drops rows."""
    made_of = [asdict(source) for source in config.sources], signature(config.sources)
    steps = [asdict(config.filters), asdict(config.decontaminate), asdict(config.near)]
    kept_out = signature(config.decontaminate.files)
    room = read_step.room_for_questions(config)
    rest = [config.gold_check, config.seed, room, verify.VERSION, pools.VERSION]
    return fingerprint([*made_of, *steps, kept_out, rest])


def candidates(
    problems: list[dict[str, Any]], sampled: Sampled, store: Store, config: CurateConfig
) -> list[dict[str, Any]]:
    """The chains of the kept problems that pass the gate, scored."""
    teachers = {teacher.name for teacher in config.chains.teachers}
    if config.chains.reuse_strong:
        teachers.add("strong")
    stages = [stage for stage in sampled.stages if stage.name in teachers]
    chains = collect(problems, stages, store, config.chains, config.sampler.judge)
    columns = score([chain["solution"] for chain in chains], config.quality)
    rows = {row["id"]: row for row in problems}
    for place, chain in enumerate(chains):
        chain.update({name: float(values[place]) for name, values in columns.items()})
        chain["group"] = group_of(rows[chain["problem_id"]], config.selection.group_by)
    return chains


def outline(config: CurateConfig, device: str) -> str:
    """What a run would do: stages, engines and resources, in lines. Starts nothing."""
    lines = ["sources"]
    lines += [f"  {source.label()}" for source in config.sources]
    gates = ["filters", *(["gold check"] if config.gold_check else [])]
    named = [*config.decontaminate.benchmarks, *(f.label() for f in config.decontaminate.files)]
    gates.append(f"decontamination ({', '.join(named) or 'against nothing'})")
    gates += ["exact dedup", *(["near-duplicates"] if config.near.on else [])]
    lines.append("pool        " + ", ".join(gates))
    for one in passes(config, device, identify=False):
        engine = one.engine
        replicas = f"{engine.min_replicas} to {engine.max_replicas}"
        each = f"{engine.tensor_parallel * engine.pipeline_parallel} GPU(s)"
        if engine.device == "cpu":
            each = f"{engine.num_cpus:g} CPU(s)"
        if engine.bundles:
            each = f"bundles {json.dumps([dict(bundle) for bundle in engine.bundles])}"
        lines.append(
            f"engine {one.engine_name}: {engine.model} on {engine.device}, {engine.dtype}, "
            f"{replicas} replica(s) of {each}, {engine.max_num_seqs} sequences each"
        )
        for stage in one.stages:
            rule = stage.rule
            keep = f"keep {rule.keep_min} to {rule.keep_max} correct" if stage.gate else "chains"
            lines.append(
                f"  {stage.name}: {rule.budget} attempts, {keep}; temperature "
                f"{stage.sampling.temperature:g}, {stage.sampling.max_tokens} tokens"
            )
    wanted = config.difficulty.stop_after_kept
    lines.append(
        f"stop        after {wanted} kept per {config.difficulty.per}" if wanted
        else "stop        when the whole pool is sampled"
    )  # fmt: skip
    gate = "verified correct" if config.chains.only_correct else "all complete"
    lines.append(f"chains      {gate}")
    lines.append(f"selection   {config.selection.method}, {config.selection.k} examples")
    lines.append(f"output      {Store(config.store).shown}/runs/{config.name}")
    return "\n".join(lines)
