"""What the stop rule saves: full budget, ray.data.llm, and ours, on the same pool and engine.

    python bench/sampling.py [--problems 48] [--budget 8] [--keep-max 2] [--skip-engine]

Part 1 is a scripted engine with a U-shaped pass rate, Beta(0.6, 0.3), budget 32, keep
1 to 3. Part 2 runs the packaged model on problems of the laptop pool:
  bare    every problem's whole budget, as requests to AsyncLLM and nothing else
  full    the same, through our sampler
  ray     the same attempts through ray.data.llm, one row per attempt
  ours    the stop rule; its attempts beside what one-by-one sampling of the same needs
  replay  the stop rule on the attempts of `full`: its kept set must be that of the full budget
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import pyarrow as pa
import ray
from bare import complete

from limo_ray.attempts.log import AttemptLog
from limo_ray.cli.ray_cluster import start_ray
from limo_ray.core import config
from limo_ray.core.prompts import SYSTEM, question_messages
from limo_ray.core.records import PROBLEM, SAMPLED, Problem, Verdict, order, problem_id
from limo_ray.curate.config import CurateConfig
from limo_ray.engines.base import EngineConfig, SamplingConfig
from limo_ray.problems.sources import open_sources, work_items
from limo_ray.problems.sources import rows as rows_of
from limo_ray.sampling.config import SamplerConfig
from limo_ray.sampling.coordinator import Coordinator
from limo_ray.sampling.ray_stage import sample
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.stop_rule import StopRule
from limo_ray.storage import model_files
from limo_ray.storage.store import Store
from limo_ray.verify import verdict_key, verify

ROOT = Path(__file__).parent.parent
LOG = "b" * 16


def run(
    rows: list[dict[str, Any]], rule: StopRule, engine: EngineConfig, sampling: SamplingConfig,
    folder: str, speculative_share: float = 0.02,
) -> dict[str, Any]:  # fmt: skip
    """One pass of our sampler; what it kept and what it cost."""
    stage = Stage(name="bench", rule=rule, sampling=sampling, fingerprint=LOG)
    coordinator: Any = ray.remote(Coordinator).options(num_cpus=0).remote()
    settings = SamplerConfig(flush_s=2, speculative_share=speculative_share)
    data = sample(
        ray.data.from_arrow(pa.Table.from_pylist(rows, schema=SAMPLED)), engine, [stage],
        Store(folder), system=SYSTEM, coordinator=coordinator, config=settings,
    )  # fmt: skip
    kept = {row["id"] for row in data.take_all() if row["alive"]}
    stats = next(iter(ray.get(coordinator.snapshot.remote()).values()))
    totals = stats["stages"]["bench"]
    return {
        "kept": kept,
        "attempts": totals["needed"] + totals["speculative"],
        "speculative": totals["speculative"],
        "tokens": totals["tokens"].get("completion", 0),
        "seconds": stats["seconds"],
    }


def outcomes(rows: list[dict[str, Any]], folder: str) -> dict[str, dict[int, bool]]:
    """By problem and attempt index, whether it was correct."""
    fold = AttemptLog(Store(folder), LOG).read_index()
    found = {}
    for row in rows:
        prior = fold.known(row["id"], verdict_key(row["answer"], row["domain"]))
        found[row["id"]] = {i: v == Verdict.CORRECT for i, v in prior.verdicts.items()}
    return found


def kept_by_full_budget(outcomes: dict[str, dict[int, bool]], rule: StopRule) -> set[str]:
    return {
        name for name, known in outcomes.items()
        if rule.keep_min <= sum(known[i] for i in range(rule.budget)) <= rule.keep_max
    }  # fmt: skip


def one_by_one(outcomes: dict[str, dict[int, bool]], rule: StopRule) -> int:
    """Attempts that sampling in order, one at a time, needs until each problem is decided."""
    total = 0
    for known in outcomes.values():
        finished = 0
        while rule.decide(sum(known[i] for i in range(finished)), finished) is None:
            finished += 1
        total += finished
    return total


def replayed(count: int, folder: str) -> None:
    rule = StopRule(budget=32, keep_min=1, keep_max=3)
    engine = EngineConfig(
        model="scripted", kind="scripted", device="cpu", num_cpus=0.5, max_num_seqs=64, seed=1
    )
    sampling = SamplingConfig(max_tokens=10_000)
    rows = []
    for number in range(count):
        question = f"What is {number} plus one?"
        name = problem_id(question)
        rows.append(
            {
                "id": name, "question": question, "answer": str(number + 1), "source": "",
                "domain": "math", "metadata": "{}", "file": "", "line": number,
                "order": order(0, name), "alive": True, "outcomes": "[]",
            }
        )  # fmt: skip
    full = run(rows, replace(rule, early=False), engine, sampling, f"{folder}/full")
    ours = run(rows, rule, engine, sampling, f"{folder}/ours", speculative_share=0)
    need = one_by_one(outcomes(rows, f"{folder}/full"), rule)
    print(f"scripted engine: {count} problems, Beta(0.6, 0.3), budget 32, keep 1 to 3")
    print(f"  full budget   {full['attempts']:7,} attempts, {full['tokens']:9,} tokens")
    print(f"  one by one    {need:7,} attempts")
    print(
        f"  ours          {ours['attempts']:7,} attempts, {ours['tokens']:9,} tokens: "
        f"{full['attempts'] / ours['attempts']:.2f} times fewer attempts, "
        f"{full['tokens'] / ours['tokens']:.2f} times fewer tokens"
    )
    print(f"  kept sets     {_agree(ours['kept'], full['kept'])}\n")


def _agree(one: set[str], other: set[str]) -> str:
    if one == other:
        return f"identical, {len(one)} problems"
    return f"DIFFER in {len(one ^ other)} of {len(one | other)} problems"


def laptop_rows(count: int, seed: int) -> tuple[list[dict[str, Any]], CurateConfig]:
    """The first problems of the laptop pool in its seeded order."""
    settings = config.load(CurateConfig, [str(ROOT / "conf/curate/laptop.yaml")])
    opened = open_sources(settings.sources, seed)
    pool = {row["id"]: row for item in work_items(opened) for row in rows_of(opened, item)}
    chosen = sorted((r for r in pool.values() if not r.get("reason")),
                    key=lambda row: order(seed, row["id"]))[:count]  # fmt: skip
    rows = [
        {name: row[name] for name in SAMPLED.names if name in row}
        | {"order": order(seed, row["id"]), "alive": True, "outcomes": "[]"}
        for row in chosen
    ]
    return rows, settings


@ray.remote(num_cpus=0)
def with_bare_engine(
    rows: list[dict[str, Any]], budget: int, config: EngineConfig, sampling: SamplingConfig
) -> dict[str, Any]:
    """The engine alone, all attempts asked for at once."""
    problems = [Problem(**{name: row[name] for name in PROBLEM.names}) for row in rows]
    done, seconds = asyncio.run(complete(config, sampling, problems, budget))
    tokens = sum(completion.completion_tokens for completion in done)
    return {"attempts": len(done), "tokens": tokens, "seconds": seconds}


def with_ray_data_llm(
    rows: list[dict[str, Any]], rule: StopRule, engine: EngineConfig, sampling: SamplingConfig
) -> dict[str, Any]:
    """ray.data.llm on one row per attempt; verdicts are given afterwards, outside the clock."""
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    from limo_ray.engines.environment import set_cpu_environment

    set_cpu_environment(engine)  # the same threads and OpenMP as ours gets
    names = ("VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_KVCACHE_SPACE", "LD_PRELOAD")
    environment = {name: os.environ[name] for name in names if name in os.environ}
    environment["VLLM_LOGGING_LEVEL"] = "ERROR"
    processor = build_processor(
        vLLMEngineProcessorConfig(
            model_source=model_files.resolve(engine.model),
            engine_kwargs={
                "dtype": engine.dtype, "max_num_seqs": engine.max_num_seqs,
                "max_model_len": engine.max_model_len, "enforce_eager": engine.eager,
                "distributed_executor_backend": "mp",
            },
            batch_size=32, concurrency=1, max_concurrent_batches=8,
            placement_group_config={"bundle_per_worker": {"CPU": 0.5}},
            runtime_env={"env_vars": environment},
            chat_template_stage={"num_cpus": 0.1}, tokenize_stage={"num_cpus": 0.1},
            detokenize_stage={"num_cpus": 0.1},
        ),
        preprocess=lambda row: {
            "messages": question_messages(row["question"], SYSTEM),
            "sampling_params": {"temperature": sampling.temperature, "top_p": sampling.top_p,
                                "max_tokens": sampling.max_tokens},
        },
        postprocess=lambda row: {
            "id": row["id"], "answer": row["answer"], "domain": row["domain"],
            "text": row["generated_text"], "tokens": row["num_generated_tokens"],
            "at": time.time(), "took": row["time_taken_llm"],
        },
    )  # fmt: skip
    attempts = [
        {name: row[name] for name in ("id", "question", "answer", "domain")}
        for row in rows for _ in range(rule.budget)
    ]  # fmt: skip
    done = processor(ray.data.from_items(attempts, override_num_blocks=16)).take_all()
    correct: dict[str, int] = dict.fromkeys((row["id"] for row in rows), 0)
    for row in done:
        correct[row["id"]] += verify(row["answer"], row["text"], row["domain"]) == "correct"
    first = min(row["at"] - row["took"] for row in done)
    return {
        "kept": {n for n, c in correct.items() if rule.keep_min <= c <= rule.keep_max},
        "attempts": len(done),
        "tokens": sum(row["tokens"] for row in done),
        "seconds": max(row["at"] for row in done) - first,
    }


def real(arguments: argparse.Namespace, folder: str) -> None:
    rows, settings = laptop_rows(arguments.problems, seed=3)
    engine = settings.engines["smollm2"]
    sampling = replace(settings.difficulty.strong.sampling, loop_count=0)
    rule = StopRule(budget=arguments.budget, keep_min=1, keep_max=arguments.keep_max)
    print(f"real engine: {len(rows)} problems of the laptop pool, budget {rule.budget}, "
          f"keep {rule.keep_min} to {rule.keep_max}", flush=True)  # fmt: skip

    bare = ray.get(with_bare_engine.remote(rows, rule.budget, engine, sampling))

    def show(name: str, found: dict[str, Any]) -> None:
        rate, peak = (each["tokens"] / each["seconds"] for each in (found, bare))
        print(f"  {name:12} {found['attempts']:6,} attempts {found['tokens']:8,} tokens "
              f"{found['seconds']:6.0f} s {rate:6.0f} tokens/s ({rate / peak:.2f} of bare) "
              f"{len(found.get('kept', [])) or '-':>4} kept", flush=True)  # fmt: skip

    show("bare engine", bare)
    full = run(rows, replace(rule, early=False), engine, sampling, f"{folder}/real-full", 0)
    show("full budget", full)
    show("ray.data.llm", with_ray_data_llm(rows, rule, engine, sampling))
    ours = run(rows, rule, engine, sampling, f"{folder}/real-ours")
    show("ours", ours)
    need = one_by_one(outcomes(rows, f"{folder}/real-ours"), rule)
    sampled = outcomes(rows, f"{folder}/real-full")
    theory = one_by_one(sampled, rule)
    print(f"  attempts: ours made {ours['attempts'] / need:.3f} of what one-by-one sampling of the "
          f"same attempts needs ({need:,}); {ours['speculative']} were speculative")  # fmt: skip
    print(f"  tokens: {full['tokens'] / ours['tokens']:.2f} times fewer than the full budget "
          f"(in theory, on the attempts of the full budget: "
          f"{full['attempts'] / theory:.2f} times fewer)")  # fmt: skip
    replay = replace(
        engine, kind="replay", script={"log": f"{folder}/real-full/attempts/{LOG}"}, num_cpus=0.5
    )
    again = run(rows, rule, replay, sampling, f"{folder}/real-replay", 0)
    print(f"  replay of the full budget's attempts: {again['attempts']:,} attempts, kept sets "
          f"{_agree(again['kept'], kept_by_full_budget(sampled, rule))}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=48)
    parser.add_argument("--budget", type=int, default=8)
    parser.add_argument("--keep-max", type=int, default=2)
    parser.add_argument("--scripted-problems", type=int, default=600)
    parser.add_argument("--skip-engine", action="store_true")
    arguments = parser.parse_args()
    start_ray(log_to_driver=False)
    folder = tempfile.mkdtemp(prefix="limo_ray-sampling-")
    replayed(arguments.scripted_problems, folder)
    if not arguments.skip_engine:
        real(arguments, folder)
    ray.shutdown()
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
