"""A study whose jobs are stand-ins: the accuracy of a model is a known function of its examples.

python -m tests.study.stand_ins STORE [kill=POINT] [key=value ...]

POINT is `train`, `evaluate` or `done` with a number: the process kills itself there, as kill -9
would. Calls of the stand-ins are written to STORE/calls.txt.
"""

import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from limo_ray.core import config as configs
from limo_ray.core.records import fingerprint
from limo_ray.curate.candidates import Candidates
from limo_ray.curate.records import Chain, KeptProblem
from limo_ray.storage.store import Store
from limo_ray.study.config import StudyConfig
from limo_ray.study.job import Functions, StudyResult, study
from limo_ray.study.runner import Jobs

ITEMS, ATTEMPTS = 60, 4
BASE = {
    "curate.preset": "conf/curate/laptop.yaml", "train.preset": "conf/train/laptop.yaml",
    "train.rows.held_out": 0, "evaluate.preset": "conf/evaluate/laptop.yaml",
    "name": "tiny", "budget": "steps", "max_parallel": 1,
}  # fmt: skip


def arguments(store: Path, *more: str, **changed: Any) -> list[str]:
    settings = BASE | {"store": store} | changed
    return [*(f"{key}={value}" for key, value in settings.items()), *more]


def problems(count: int = 60) -> Candidates:
    """Kept problems (two thirds) and dropped ones, each with two chains of growing score."""
    found, chains = {}, []
    for number in range(count):
        rate = (number % 3 + 1, 4)
        outcomes = [{"stage": "strong", "correct": rate[0], "finished": 4, "decision": ""}]
        found[f"p{number}"] = KeptProblem(
            id=f"p{number}", question=f"What is {number} + 1?", answer=str(number + 1),
            source="s", file="f", line=number, order=number, outcomes=json.dumps(outcomes),
        )  # fmt: skip
        for index in range(2):
            score = float(number + index / 2)
            names = ("score", "score_elaborated", "score_verification", "score_exploratory",
                     "score_granularity")  # fmt: skip
            chains.append(Chain(
                problem_id=f"p{number}", teacher="strong" if index else "T", index=index,
                solution=f"Step {index}. " * 3 + rf"\boxed{{{number + 1}}}",
                tokens=20 + 7 * number % 61, group="s", scores=dict.fromkeys(names, score),
            ))  # fmt: skip
    kept = {id_ for place, id_ in enumerate(found) if place % 3 < 2}
    return Candidates(problems=found, chains=chains, kept=kept, system="Think.")


@dataclass
class Stand:
    """The jobs; `effect` is what a mean number of 10 more tokens per example adds to the logit."""

    store: Path
    kill: str = ""
    fail: int = 0
    effect: float = 0.0
    seed_sd: float = 0.1
    world: int = 5
    """Another one has other items and other luck."""
    calls: int = 0

    def note(self, what: str) -> None:
        with (self.store / "calls.txt").open("a") as file:
            file.write(what + "\n")
        kind, _, number = self.kill.partition(":")
        if what.startswith(kind + " ") and kind:
            self.calls += 1
            if self.calls == int(number):
                os.kill(os.getpid(), signal.SIGKILL)

    def train(self, config: Any, device: str) -> Any:
        self.note(f"train {config.name}")
        rows = pq.read_table(config.data).to_pylist()
        if self.fail == len(rows):
            raise ValueError(f"a set of {self.fail} fails on purpose")
        length = float(np.mean([row["tokens"] for row in rows]))
        facts = {"length": length, "seed": config.seed, "data": config.data.rpartition("/")[2]}
        Store(config.store).write_json(f"models/{config.name}/config.json", facts)
        metrics = {"examples": len(rows), "steps": 3, "learned_tokens": 100, "loss": 1.0}
        return type("Result", (), {"metrics": metrics})

    def evaluate(self, config: Any, device: str) -> Any:
        self.note(f"evaluate {config.name}")
        file = Path(config.model) / "config.json"
        model = json.loads(file.read_text()) if file.is_file() else {"length": 0, "seed": None}
        rng = np.random.default_rng([int(fingerprint(model), 16), self.world])
        item = np.random.default_rng(self.world).normal(-0.5, 1.2, ITEMS)
        shift = self.effect * model["length"] / 10 + rng.normal(0, self.seed_sd)
        correct = rng.binomial(ATTEMPTS, 1 / (1 + np.exp(-(item + shift))))
        table = pa.table({
            "benchmark": ["held_out"] * ITEMS, "item": pa.array(range(1, ITEMS + 1), pa.int32()),
            "correct": pa.array(correct, pa.int32()),
            "attempts": pa.array([ATTEMPTS] * ITEMS, pa.int32()),
        })  # fmt: skip
        Store(config.store).write_table(f"evaluations/{config.name}/items.parquet", table)
        value = float(correct.mean() / ATTEMPTS)
        scores = {"pass@1": {"value": value, "low": 0.0, "high": 1.0, "items": ITEMS}}
        self.note(f"done {config.name}")
        return type("Result", (), {"results": {"runs": [{"scores": {"held_out": scores}}]}})


def run(store: Path, argv: list[str], **stand: Any) -> StudyResult:
    store.mkdir(exist_ok=True, parents=True)
    jobs = Stand(store=store, **stand)
    functions = Functions(
        candidates=lambda config, device, wide: problems(), targets=lambda config: (10,),
        model_identity=lambda model: model,
        jobs=Jobs(train=jobs.train, evaluate=jobs.evaluate),
    )  # fmt: skip
    return study(configs.load(StudyConfig, argv), "cpu", functions)


def calls(store: Path) -> list[str]:
    return (store / "calls.txt").read_text().splitlines()


if __name__ == "__main__":
    place = Path(sys.argv[1])
    point = next((a.partition("=")[2] for a in sys.argv[2:] if a.startswith("kill=")), "")
    run(place, [a for a in sys.argv[2:] if not a.startswith("kill=")], kill=point)
