"""What the sampler costs: our tokens/s over those of the bare engine, for the same requests.

    python bench/overhead.py [--requests 96] [--tokens 96] [--rounds 5]

Three engines on the same model stand side by side in one process tree: `AsyncLLM` called bare,
`vllm.LLM.generate`, and ours (scheduler, verifier, attempt log). They take turns, a round each;
the idle ones use no core. Decoding is greedy, so that all three make the same tokens. Printed are
the medians of the rounds and of the ratios within a round.
"""

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import ray

from limo_ray.cli.ray_cluster import start_ray
from limo_ray.core.prompts import SYSTEM, question_messages
from limo_ray.core.records import Problem, problem_id, sampled_table
from limo_ray.engines.base import Engine, EngineConfig, Request, SamplingConfig, create
from limo_ray.problems import gym
from limo_ray.sampling.config import SamplerConfig
from limo_ray.sampling.coordinator import Coordinator
from limo_ray.sampling.sampler import Sampler
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.stop_rule import StopRule
from limo_ray.storage import model_files
from limo_ray.storage.store import Store


def engine_config(slots: int) -> EngineConfig:
    return EngineConfig(
        model=model_files.PACKAGED, device="cpu", dtype="bfloat16", max_num_seqs=slots,
        max_model_len=512, kv_cache_gib=1, eager=True,
    )  # fmt: skip


def problems(count: int) -> list[Problem]:
    found = []
    for kind in ("gcd", "chain_sum", "simple_equations"):
        for entry in gym.problems(kind, {}, 11, 0, count // 3 + 1):
            question, answer = entry["question"], entry["answer"]
            found.append(
                Problem(id=problem_id(question), question=question, answer=answer,
                        source=kind, domain="gym")
            )  # fmt: skip
    return list({problem.id: problem for problem in found}.values())[:count]


async def _all(engine: Engine, requests: list[Request]) -> float:
    started = time.perf_counter()
    done = await asyncio.gather(*map(engine.generate, requests))
    return sum(c.completion_tokens for c in done) / (time.perf_counter() - started)


@ray.remote(num_cpus=0)
class Bare:
    """AsyncLLM with all requests open at once."""

    def __init__(self, slots: int, sampling: SamplingConfig) -> None:
        self.sampling = sampling
        self.loop = asyncio.new_event_loop()
        self.engine = create(engine_config(slots))
        self.loop.run_until_complete(self.engine.start())

    def run(self, pool: list[Problem]) -> float:
        requests = [
            Request(problem=problem, index=0, sampling=self.sampling,
                    prompt=self.engine.render(question_messages(problem.question, SYSTEM)))
            for problem in pool
        ]  # fmt: skip
        return self.loop.run_until_complete(_all(self.engine, requests))


@ray.remote(num_cpus=0)
class Offline:
    """vllm.LLM.generate with all prompts in one call."""

    def __init__(self, slots: int, sampling: SamplingConfig) -> None:
        import os

        from limo_ray.engines.environment import set_cpu_environment

        config = engine_config(slots)
        set_cpu_environment(config)
        os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
        from vllm import LLM, SamplingParams

        self.engine = LLM(
            model=model_files.resolve(config.model), dtype=config.dtype, max_num_seqs=slots,
            max_model_len=config.max_model_len, enforce_eager=True, enable_prefix_caching=True,
        )  # fmt: skip
        self.params = SamplingParams(temperature=0, max_tokens=sampling.max_tokens)
        self.tokenizer = self.engine.get_tokenizer()

    def run(self, pool: list[Problem]) -> float:
        prompts: list[Any] = []
        for problem in pool:
            rendered = self.tokenizer.apply_chat_template(
                question_messages(problem.question, SYSTEM), add_generation_prompt=True,
                tokenize=True, return_dict=True,
            )  # fmt: skip
            prompts.append({"prompt_token_ids": list(rendered["input_ids"])})
        started = time.perf_counter()
        done = self.engine.generate(prompts, self.params, use_tqdm=False)
        tokens = sum(len(output.outputs[0].token_ids) for output in done)
        return tokens / (time.perf_counter() - started)


@ray.remote(num_cpus=0, max_concurrency=4)
class Ours:
    """The Sampler as Ray Data runs it, batches on several threads, every attempt verified."""

    def __init__(self, slots: int, sampling: SamplingConfig, folder: str, coordinator: Any) -> None:
        rule = StopRule(budget=1, keep_min=0, keep_max=1, early=False)
        self.folder = folder
        self.stage = Stage(name="bench", rule=rule, sampling=sampling, fingerprint="")
        self.rounds = 0
        self.sampler = Sampler(
            engine_config(slots), [self.stage], Store(folder), SYSTEM, coordinator, SamplerConfig()
        )

    def run(self, pool: list[Problem]) -> float:
        """Tokens/s between the first request and the last verdict, without the last flush."""
        sampler = self.sampler
        totals = sampler.totals.stages[0]
        before = totals.tokens["completion"]
        # another id each time: the log must not know the problem
        table = sampled_table(
            replace(problem, id=problem_id(f"{self.rounds} {problem.question}")) for problem in pool
        )
        batches = [table.slice(start, 8) for start in range(0, len(table), 8)]
        started = time.perf_counter()
        threads = [threading.Thread(target=sampler, args=(batch,)) for batch in batches]
        for thread in threads:
            thread.start()
        while totals.verdicts.total() < (self.rounds + 1) * len(pool):
            time.sleep(0.05)
        spent = time.perf_counter() - started
        for thread in threads:
            thread.join()
        self.rounds += 1
        return (totals.tokens["completion"] - before) / spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slots", type=int, default=64)
    arguments = parser.parse_args()
    start_ray(log_to_driver=False)
    sampling = SamplingConfig(temperature=0, max_tokens=arguments.tokens)
    folder = tempfile.mkdtemp(prefix="limo_ray-overhead-")
    coordinator = ray.remote(Coordinator).options(num_cpus=0).remote()
    pool = problems(arguments.requests)
    contenders = {
        "AsyncLLM, bare": Bare.remote(arguments.slots, sampling),
        "vllm.LLM.generate": Offline.remote(arguments.slots, sampling),
        "limo_ray sampler": Ours.remote(arguments.slots, sampling, folder, coordinator),
    }
    for actor in contenders.values():  # start and warm up one after the other
        ray.get(actor.run.remote(pool))
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(arguments.rounds):
        for name, actor in contenders.items():
            speeds[name].append(ray.get(actor.run.remote(pool)))
        shown = ", ".join(f"{name} {found[-1]:.0f}" for name, found in speeds.items())
        print(f"round {number + 1}: {shown} tokens/s", flush=True)
    ours = speeds.pop("limo_ray sampler")
    print(f"\n{len(pool)} requests of at most {arguments.tokens} tokens, {arguments.slots} slots")
    print(f"{'limo_ray sampler':20} {statistics.median(ours):7.0f} tokens/s")
    for name, found in speeds.items():
        ratios = sorted(a / b for a, b in zip(ours, found, strict=True))
        print(
            f"{name:20} {statistics.median(found):7.0f} tokens/s   ours is "
            f"{statistics.median(ratios):.3f} of it ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )
    ray.shutdown()
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
