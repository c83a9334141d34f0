"""What the lines on a terminal say, from what samplers report."""

import time

from limo_ray.engines.base import SamplingConfig
from limo_ray.sampling.progress import Progress
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.stop_rule import StopRule


def stage(name: str, rule: StopRule, gate: bool = True) -> Stage:
    return Stage(name=name, rule=rule, sampling=SamplingConfig(), fingerprint="", gate=gate)


def report(**stages: dict) -> dict:
    return {"halted": False, "engine": True, "open": 3, "seconds": 10.0,
            "at": time.time(), "stages": stages}  # fmt: skip


def counts(needed: int, decisions: dict[str, int], tokens: int = 0, reused: int = 0) -> dict:
    return {
        "needed": needed, "speculative": 0, "aborted": 0, "reused": reused,
        "verdicts": {"correct": 2}, "tokens": {"completion": tokens}, "decisions": decisions,
    }  # fmt: skip


def test_totals_are_summed_over_samplers_and_savings_shown() -> None:
    stages = [
        stage("weak", StopRule(budget=4, keep_min=0, keep_max=0)),
        stage("strong", StopRule(budget=32)),
        stage("teacher", StopRule(budget=2, keep_min=0, keep_max=2, early=False), gate=False),
    ]
    progress = Progress(None, stages, total=100, wanted=4)
    one = report(weak=counts(10, {"keep": 3, "drop_easy": 2}, 500),
                 strong=counts(20, {"keep": 1, "drop_hard": 1}, 1500))  # fmt: skip
    two = report(strong=counts(12, {"drop_easy": 2}, 1000, reused=32))
    progress.workers = {"a": one, "b": two}
    rows = {row[0]: row[1:] for row in progress.rows()}
    assert rows["strong"] == ["4", "1", "32", "32", "50%", "4", "2,500"]
    line = progress.line()
    assert "6 of 100 problems decided, 1 kept of 4 wanted" in line
    assert "2 engine(s), 300 tokens/s" in line
    assert "teacher" not in line, "a stage that has done nothing yet is not worth a line"


def test_a_sampler_that_died_has_no_engine_and_no_problem_counts_twice() -> None:
    """What it had decided, another decides again from the log."""
    progress = Progress(None, [stage("strong", StopRule(budget=32))], total=3)
    one = report(strong=counts(20, {"keep": 1, "drop_hard": 1}))
    progress.workers = {"a": one | {"at": time.time() - 60}, "b": one}
    assert "3 of 3 problems decided" in progress.line() and "1 engine(s)" in progress.line()


def test_facts_for_the_outside_have_the_rates_of_the_last_minutes(monkeypatch) -> None:
    stages = [stage("weak", StopRule(budget=4, keep_min=0, keep_max=0))]
    progress = Progress(None, stages, total=100)
    now = [1000.0]
    monkeypatch.setattr("limo_ray.sampling.progress.time.time", lambda: now[0])
    tokens = [0]

    def fetch() -> None:
        one = report(weak=counts(2, {"keep": 3}, tokens[0])) | {"at": now[0], "slots": 17}
        progress.workers = {"a": one}

    progress._fetch = fetch  # type: ignore[method-assign]
    progress.facts()
    now[0], tokens[0] = 1100.0, 5_000
    found = progress.facts()
    assert found["tokens_per_s"] == 50 and found["decided"] == 3 and found["kept"] == 3
    assert found["limo_ray_slots"] == 17 and found["stages"][0]["budget"] == 4
    now[0], tokens[0] = 1270.0, 10_000
    assert progress.facts()["tokens_per_s"] == 5_000 / 170, "the start is too long ago to count"
