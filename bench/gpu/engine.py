"""The sampler over the bare engine, seeds, cut and continued completions, loops."""

import asyncio
import os
import statistics
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import ray

from bench.gpu import models
from bench.gpu.report import result, skipped
from limo_ray.core.prompts import SYSTEM, question_messages
from limo_ray.core.records import Problem, problem_id, sampled_table
from limo_ray.engines import continuation, orphan_reaper
from limo_ray.engines.base import Completion, EngineConfig, Request, SamplingConfig
from limo_ray.sampling.config import SamplerConfig
from limo_ray.sampling.coordinator import Coordinator
from limo_ray.sampling.sampler import Sampler
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.stop_rule import StopRule
from limo_ray.storage import model_files
from limo_ray.storage.store import Store


def dummy(shape: str) -> Path:
    """Config and tokenizer of a model, for `load_format: dummy`.

    The tokenizer is that of $BENCH_TOKENIZER (a model folder) or the packaged model; the vocabulary
    is its own, so the head is cheaper than Qwen's.
    """
    from transformers import AutoTokenizer

    folder = Path(tempfile.gettempdir()) / f"limo_ray-bench-{shape}"
    source = os.environ.get("BENCH_TOKENIZER") or model_files.resolve(model_files.PACKAGED)
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.save_pretrained(folder)
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    made = models.model_config(shape, vocab_size=len(tokenizer), **ends)
    made.architectures = ["Qwen2ForCausalLM"]
    made.save_pretrained(folder)
    return folder


def config(device: str, case: str) -> EngineConfig:
    if device == "cpu":
        return EngineConfig(
            model=model_files.PACKAGED, device="cpu", dtype="bfloat16", max_num_seqs=32,
            max_model_len=512, kv_cache_gib=1, eager=True,
        )  # fmt: skip
    shape = "0.5b" if case == "tiny" else case
    return EngineConfig(
        model=str(dummy(shape)), device="gpu", dtype="bfloat16", max_num_seqs=256,
        max_model_len=4096, eager=case == "tiny", extra={"load_format": "dummy"},
    )  # fmt: skip


class Bench:
    """A sampler, whose engine the bare turns use too: same KV cache, same graphs, same loop."""

    def __init__(self, device: str, case: str, tokens: int) -> None:
        self.greedy = SamplingConfig(temperature=0, max_tokens=tokens)
        rule = StopRule(budget=1, keep_min=0, keep_max=1, early=False)
        stage = Stage(name="bench", rule=rule, sampling=self.greedy, fingerprint="")
        coordinator = ray.remote(Coordinator).options(num_cpus=0).remote()
        self.sampler = Sampler(
            config(device, case), [stage], Store(tempfile.mkdtemp()), SYSTEM, coordinator,
            SamplerConfig(),
        )  # fmt: skip
        self.turns = 0

    @property
    def engine(self) -> Any:
        return self.sampler.slots.engine

    def sampled(self, pool: list[Problem]) -> float:
        """Tokens/s of the sampler, every attempt verified and logged."""
        sampler, totals = self.sampler, self.sampler.totals.stages[0]
        self.turns += 1
        before, verdicts = totals.tokens["completion"], totals.verdicts.total()
        # another id each time: the log must not know the problem
        table = sampled_table(
            replace(problem, id=problem_id(f"{self.turns} {problem.question}")) for problem in pool
        )
        batches = [table.slice(start, 8) for start in range(0, len(table), 8)]
        begun = time.perf_counter()
        threads = [threading.Thread(target=sampler, args=(one,), daemon=True) for one in batches]
        for thread in threads:
            thread.start()
        while totals.verdicts.total() < verdicts + len(pool):
            if sampler.failure:
                raise sampler.failure
            time.sleep(0.02)
        spent = time.perf_counter() - begun
        for thread in threads:
            thread.join()
        return (totals.tokens["completion"] - before) / spent

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.sampler.loop).result()

    def request(self, problem: Problem, sampling: SamplingConfig, prefix: list[int]) -> Request:
        prompt = self.engine.render(question_messages(problem.question, SYSTEM))
        return Request(
            problem=problem, index=0, prompt=prompt, sampling=sampling, prefix=prefix
        )  # fmt: skip

    def bare(self, pool: list[Problem], sampling: SamplingConfig) -> tuple[float, list[Completion]]:
        """Tokens/s of the engine with all requests open at once."""

        async def together() -> tuple[float, list[Completion]]:
            requests = [self.request(problem, sampling, []) for problem in pool]
            begun = time.perf_counter()
            done = await asyncio.gather(*map(self.engine.generate, requests))
            spent = time.perf_counter() - begun
            return sum(one.completion_tokens for one in done) / spent, done

        return self._wait(together())

    def cut(self, problem: Problem) -> tuple[Completion, Completion, Completion]:
        """A completion; the same cut off on its way; and that one continued."""

        async def halves() -> tuple[Completion, Completion, Completion]:
            whole = await self.engine.generate(self.request(problem, self.greedy, []))
            running = asyncio.create_task(
                self.engine.generate(self.request(problem, self.greedy, []))
            )
            await asyncio.sleep(0.3)
            await self.engine.cut_off()
            part = await running
            rest = await self.engine.generate(self.request(problem, self.greedy, part.tokens))
            return whole, part, rest

        return self._wait(halves())


def engine(device: str, case: str) -> None:
    """All of it with one start of the engine."""
    name = f"engine-{case}"
    count, tokens, rounds = (512, 256, 3) if device == "gpu" else (32, 32, 2)
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    pool = []
    for one in range(count):
        question = f"What is {one} plus {one * 7 % 1000}? Think step by step."
        pool.append(Problem(id=problem_id(question), question=question,
                            answer=str(one + one * 7 % 1000), source="bench"))  # fmt: skip
    bench = Bench(device, case, tokens)
    begun = time.time()
    try:
        bench.sampled(pool[:8])
    except BaseException:
        log = orphan_reaper.records_folder() / f"{os.getpid()}.log"
        print(log.read_text()[-6000:] if log.exists() else "", flush=True)
        raise
    result(name, "start of the engine", time.time() - begun, "s")
    bench.bare(pool, bench.greedy)
    _overhead(name, bench, pool, rounds)
    _seeds(name, bench, pool, device, tokens)
    whole, part, rest = bench.cut(pool[0])
    result(name, "cut after so many tokens, and continued", len(part.tokens), "tokens",
           ok=part.finish_reason == "cut" and rest.completion_tokens == whole.completion_tokens,
           peer=whole.completion_tokens, peer_name="whole",
           same_text=rest.text == whole.text)  # fmt: skip
    loops = SamplingConfig(temperature=0, max_tokens=4 * tokens, loop_count=3, loop_pattern=16)
    ends = [one.finish_reason for one in bench.bare(pool[:32], loops)[1]]
    result(name, "greedy completions that end as a loop, of 32", ends.count("loop"),
           ok=set(ends) <= {"loop", "stop", "length"})  # fmt: skip
    bench.engine.shutdown()
    ray.shutdown()


def _overhead(name: str, bench: Bench, pool: list[Problem], rounds: int) -> None:
    own = psutil.Process()
    speeds: dict[str, list[float]] = {"bare": [], "sampler": []}
    cpu: dict[str, float] = {}
    for _ in range(rounds):
        for kind, turn in (
            ("bare", lambda: bench.bare(pool, bench.greedy)[0]),
            ("sampler", lambda: bench.sampled(pool)),
        ):
            before = sum(own.cpu_times()[:2])
            speeds[kind].append(turn())
            cpu[kind] = cpu.get(kind, 0.0) + sum(own.cpu_times()[:2]) - before
    bare, ours = (statistics.median(speeds[kind]) for kind in ("bare", "sampler"))
    result(name, "sampler", ours, "tokens/s", peer=round(bare), peer_name="bare AsyncLLM",
           rounds={kind: [round(one) for one in found] for kind, found in speeds.items()},
           cpu_s={kind: round(spent, 2) for kind, spent in cpu.items()})  # fmt: skip


def _seeds(name: str, bench: Bench, pool: list[Problem], device: str, tokens: int) -> None:
    warm = SamplingConfig(temperature=0.6, top_p=0.95, max_tokens=tokens)
    if device == "cpu":
        skipped(name, "per-request seeds: vLLM's CPU backend has none")
        return
    seeded = bench.bare(pool, warm)[0]
    plain, continuation.request_seed = continuation.request_seed, lambda *_: None
    try:
        free = bench.bare(pool, warm)[0]
    finally:
        continuation.request_seed = plain
    result(name, "sampled with seeds", seeded, "tokens/s", peer=round(free), peer_name="no seeds")
    first, again = (bench.bare(pool[:16], warm)[1] for _ in range(2))
    same = sum(a.text == b.text for a, b in zip(first, again, strict=True))
    result(name, "texts that the same seeds give again, of 16", same, ok=same >= 15)
