"""The sampler in a real Ray Data pipeline, on the scripted engine."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from ray.exceptions import RayError

from limo_ray.attempts.partials import Partials
from limo_ray.attempts.parts import read_table
from limo_ray.core.errors import EngineError
from limo_ray.engines.base import EngineConfig, SamplingConfig
from limo_ray.engines.scripted import ScriptedEngine
from limo_ray.sampling.batching import batch_sizes
from limo_ray.sampling.config import SamplerConfig
from limo_ray.sampling.coordinator import Coordinator
from limo_ray.sampling.ray_stage import sample
from limo_ray.sampling.sampler import Sampler
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.stop_rule import StopRule
from limo_ray.storage.store import Store
from tests.sampling.sums import pool

RULE = StopRule(budget=8, keep_min=1, keep_max=3)
ENGINE = EngineConfig(
    model="scripted", kind="scripted", device="cpu", num_cpus=0.5, max_num_seqs=16, seed=3
)


def stage(rule: StopRule = RULE, fingerprint: str = "f" * 16) -> Stage:
    sampling = SamplingConfig(max_tokens=500)
    return Stage(name="strong", rule=rule, sampling=sampling, fingerprint=fingerprint)


def run(
    ray, rows: pa.Table, store: Store, stages: list[Stage], engine=ENGINE, meanwhile=None, **config
):
    coordinator = ray.remote(Coordinator).options(num_cpus=0).remote()
    other = meanwhile.remote(coordinator) if meanwhile else None
    settings = SamplerConfig(**{"flush_s": 0.2, "speculative_share": 0.0} | config)
    data = sample(
        ray.data.from_arrow(rows),
        engine,
        stages,
        store,
        system="",
        coordinator=coordinator,
        config=settings,
    )
    decided = {row["id"]: row for row in data.take_all()}
    stats = list(ray.get(coordinator.snapshot.remote()).values())
    assert other is None or ray.get(other), "the sampler's process was not ended"
    ray.kill(coordinator)
    return decided, stats


def expected(rows: pa.Table, rule: StopRule, engine=ENGINE) -> tuple[set[str], int]:
    """The kept set of the full budget, and the attempts that sampling one by one needs."""
    from limo_ray.core.records import PROBLEM, Problem
    from limo_ray.engines.base import Request

    scripted = ScriptedEngine(engine)
    kept, needed = set(), 0
    for row in rows.to_pylist():
        problem = Problem(**{name: row[name] for name in PROBLEM.names})
        outcomes = []
        for index in range(rule.budget):
            request = Request(problem=problem, index=index, prompt=[], sampling=stage().sampling)
            outcomes.append(f"boxed{{{problem.answer}}}" in scripted._completion(request).text)
        correct = sum(outcomes)
        if rule.keep_min <= correct <= rule.keep_max:
            kept.add(problem.id)
        needed += next(
            n for n in range(rule.budget + 1) if rule.decide(sum(outcomes[:n]), n) is not None
        )
    return kept, needed


def kept(decided: dict) -> set[str]:
    return {name for name, row in decided.items() if row["alive"]}


def logged(store: Store, fingerprint: str = "f" * 16) -> list[tuple[str, int]]:
    table = read_table(store, f"attempts/{fingerprint}", ["problem_id", "index"])
    return sorted(zip(table["problem_id"].to_pylist(), table["index"].to_pylist(), strict=True))


def test_kept_set_is_that_of_the_full_budget_and_no_attempt_is_needless(local_ray, tmp_path):
    rows, store = pool(120), Store(str(tmp_path))
    decided, _ = run(local_ray, rows, store, [stage()])
    wanted, needed = expected(rows, RULE)
    assert len(decided) == 120
    assert kept(decided) == wanted
    assert 0 < len(wanted) < 120
    attempts = logged(store)
    assert len(attempts) == len(set(attempts)) == needed

    again, stats = run(local_ray, rows, store, [stage()])
    assert kept(again) == wanted
    assert logged(store) == attempts, "the log knows everything: nothing is sampled again"
    assert stats[0]["engine"] is False, "nor is an engine started"

    # a larger budget reuses every attempt
    wider = StopRule(budget=12, keep_min=1, keep_max=4)
    decided, _ = run(local_ray, rows, store, [stage(wider)])
    wanted, _ = expected(rows, wider)
    assert kept(decided) == wanted
    more = logged(store)
    assert set(attempts) < set(more)
    assert len(more) == len(set(more))


def test_dropped_rows_lose_their_text_and_say_why(local_ray, tmp_path):
    rows = pool(40)
    weak = Stage(name="weak", rule=StopRule(budget=2, keep_min=0, keep_max=0),
                 sampling=SamplingConfig(max_tokens=500), fingerprint="a" * 16)  # fmt: skip
    decided, _ = run(local_ray, rows, Store(str(tmp_path)), [weak, stage()])
    dropped = [row for row in decided.values() if not row["alive"]]
    assert dropped
    assert all(row["question"] == "" for row in dropped)
    for row in decided.values():
        outcomes = json.loads(row["outcomes"])
        assert outcomes[0]["stage"] == "weak"
        passed = outcomes[0]["decision"] == "keep"
        assert len(outcomes) == (2 if passed else 1)
        assert row["alive"] == all(outcome["decision"] == "keep" for outcome in outcomes)


SLOW = EngineConfig(
    model="scripted", kind="scripted", device="cpu", num_cpus=0.5, max_num_seqs=16, seed=3,
    script={"seconds_per_token": 0.01},
)  # fmt: skip


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_an_ended_sampler_costs_at_most_what_was_not_flushed(local_ray, tmp_path, sent):
    """SIGTERM is what a preempted node sends: then even that is written, and what is unfinished."""
    rows, store = pool(100), Store(str(tmp_path))
    flush_s = 0.5 if sent == signal.SIGKILL else 4.0
    end = _end_the_sampler(local_ray, sent)
    decided, stats = run(
        local_ray, rows, store, [stage()], SLOW, end, flush_s=flush_s, partial_tokens=3
    )
    wanted, needed = expected(rows, RULE, SLOW)
    assert len(decided) == 100
    assert kept(decided) == wanted
    attempts = logged(store)
    assert len(attempts) == len(set(attempts)) == needed, "a logged attempt was made again"
    parts = (tmp_path / "attempts" / ("f" * 16)).glob("*.parquet")
    writers = {path.name.rpartition("-")[0] for path in parts}
    assert len(writers) == 2, "the first sampler left no part"
    continued = sum(worker["stages"]["strong"]["continued"] for worker in stats)
    saved = Partials(store, "f" * 16)
    saved.load()
    assert continued == len(saved), "what was saved went on once each"
    assert (continued > 0) == (sent == signal.SIGTERM)


def test_an_interrupted_job_goes_on_in_the_middle_of_its_completions(local_ray, tmp_path):
    rows, store = pool(100), Store(str(tmp_path))

    def interrupt(coordinator, pid):
        local_ray.get(coordinator.interrupt.remote())

    halt = _after_40_verdicts(local_ray, interrupt)
    config = {"flush_s": 4.0, "partial_tokens": 3}
    decided, _ = run(local_ray, rows, store, [stage()], SLOW, halt, **config)
    assert len(decided) < 100
    saved = Partials(store, "f" * 16)
    saved.load()
    assert len(saved)

    decided, stats = run(local_ray, rows, store, [stage()], SLOW, **config)
    wanted, needed = expected(rows, RULE, SLOW)
    assert kept(decided) == wanted
    attempts = logged(store)
    assert len(attempts) == len(set(attempts)) == needed
    assert sum(worker["stages"]["strong"]["continued"] for worker in stats) == len(saved)


def _end_the_sampler(ray, sent: signal.Signals):
    return _after_40_verdicts(ray, lambda coordinator, pid: os.kill(pid, sent))


def _after_40_verdicts(ray, do):
    """A remote function that does it once a sampler has given so many; returns its process."""

    @ray.remote(num_cpus=0)
    def watch(coordinator) -> int:
        deadline = time.time() + 60
        while time.time() < deadline:
            time.sleep(0.05)
            for worker in ray.get(coordinator.snapshot.remote()).values():
                if sum(worker["stages"]["strong"]["verdicts"].values()) >= 40:
                    do(coordinator, worker["pid"])
                    return worker["pid"]
        return 0

    return watch


def test_a_pool_of_gpu_engines_can_be_planned(local_ray, tmp_path):
    """Ray Data refuses some arguments only where GPUs are asked for."""
    engine = EngineConfig(model="scripted", kind="scripted", device="gpu", max_num_seqs=256)
    coordinator = local_ray.remote(Coordinator).options(num_cpus=0).remote()
    data = sample(
        local_ray.data.from_arrow(pool(1)), engine, [stage()], Store(str(tmp_path)), system="",
        coordinator=coordinator, config=SamplerConfig(),
    )  # fmt: skip
    assert "Sampler" in repr(data)
    local_ray.kill(coordinator)


def test_a_batch_that_is_sent_again_is_not_sampled_again(local_ray, tmp_path):
    """As Ray does when a connection broke: while the process has it, and afterwards."""
    rows, store = pool(12), Store(str(tmp_path))
    coordinator = local_ray.remote(Coordinator).options(num_cpus=0).remote()
    settings = SamplerConfig(flush_s=0.1, speculative_share=0.0)
    with ThreadPoolExecutor(3) as threads:  # none is the main one, which takes signals
        make = threads.submit(Sampler, SLOW, [stage()], store, "", coordinator, settings)
        sampler = make.result()
        first = threads.submit(sampler, rows)
        while not sampler.pending:
            time.sleep(0.01)
        again = [threads.submit(sampler, rows), threads.submit(sampler, rows)]
        found = [each.result().to_pylist() for each in (first, *again)]
        found.append(sampler(rows).to_pylist())
    wanted, needed = expected(rows, RULE, SLOW)
    assert all(kept({row["id"]: row for row in each}) == wanted for each in found)
    attempts = logged(store)
    assert len(attempts) == len(set(attempts)) == needed
    assert not sampler.pending
    local_ray.kill(coordinator)


@pytest.mark.parametrize(
    ("slots", "replicas", "total", "batch", "in_flight"),
    [
        (256, (1, 1), 0, 64, 32),  # a large pool: eight problems a slot
        (256, (8, 8), 1_000_000, 64, 32),
        (16, (1, 1), 0, 4, 32),
        (1, (1, 1), 0, 1, 8),
        (256, (4, 4), 30, 2, 4),  # a benchmark of 30: eight to each replica at the most
        (256, (1, 4), 30, 2, 15),  # or all to the only one that may come
        (256, (1, 64), 5000, 20, 26),  # two a slot, since more replicas may come
    ],
)
def test_batches_depend_on_slots_and_replicas(slots, replicas, total, batch, in_flight):
    assert batch_sizes(slots, *replicas, total) == (batch, in_flight)


def test_where_all_attempts_are_needed_few_problems_fill_an_engine():
    exam = StopRule(budget=32, keep_min=0, keep_max=32, early=False)
    assert batch_sizes(256, 1, 8, 30, [exam]) == (1, 8)  # 8 x 32 attempts: four engines share them
    assert batch_sizes(256, 1, 8, 30, [exam, RULE]) == (1, 30)


def test_an_engine_that_cannot_start_ends_the_job_with_its_reason(local_ray, tmp_path):
    broken = EngineConfig(
        model="scripted", kind="scripted", device="cpu", num_cpus=0.5,
        script={"fail": "model not found"},
    )  # fmt: skip
    from limo_ray.core.errors import reason

    with pytest.raises(RayError) as caught:
        run(local_ray, pool(4), Store(str(tmp_path)), [stage()], engine=broken)
    assert "model not found" in reason(caught.value)
    assert EngineError.__name__ in str(caught.value)
