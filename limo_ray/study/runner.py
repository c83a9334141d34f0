"""Cells: trained and evaluated once for ever, by a name made of what makes them.

    <store>/cells/<key>/    items.parquet, and cell.json when all is done, or failed.json

The key covers the examples, the model's weights, what the loss curve depends on and how the model
is evaluated; so studies share cells. A killed study goes on: its cell's training goes on from its
checkpoint, its evaluation from the attempt log. A cell that fails does not end the others.
"""

import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import RayError

from limo_ray.core.console import say
from limo_ray.core.errors import LimoError, reason
from limo_ray.core.text import duration
from limo_ray.evaluate.config import EvaluateConfig
from limo_ray.storage.store import Store
from limo_ray.study.cells import Arm
from limo_ray.train.config import TrainConfig

log = logging.getLogger(__name__)

Row = dict[str, Any]
ITEM_COLUMNS = ["benchmark", "item", "correct", "attempts"]


@dataclass(kw_only=True, slots=True)
class Cell:
    """One training and its evaluation, or the evaluation of an untrained model."""

    arm: Arm
    seed: int
    key: str
    train: TrainConfig | None
    evaluate: EvaluateConfig
    data: pa.Table | None

    @property
    def label(self) -> str:
        return f"{self.arm.label}, seed {self.seed}" if self.train else self.arm.label


@dataclass(kw_only=True, slots=True)
class Jobs:
    """What a cell is made with: the functions of the jobs, or stand-ins in a test."""

    train: Callable[[TrainConfig, str], Any]
    evaluate: Callable[[EvaluateConfig, str], Any]


def run_cells(
    cells: list[Cell], store: Store, jobs: Jobs, device: str, *, parallel: int, keep_models: bool
) -> list[str]:
    """Runs what is missing; returns why cells failed, as `label: reason`."""
    missing = [cell for cell in cells if not store.exists(f"cells/{cell.key}/cell.json")]
    say(f"{len(cells)} cells, {len(cells) - len(missing)} of them done before")
    failures: list[str] = []

    def run(place: int, cell: Cell) -> None:
        say(f"cell {place} of {len(missing)}: {cell.label} ({cell.key})")
        arguments = (cell, store, jobs, device, keep_models)
        try:
            took = ray.get(in_worker.remote(*arguments)) if parallel > 1 else run_cell(*arguments)
        except (ValueError, RuntimeError, OSError, LimoError, RayError) as error:
            why = reason(error)
            store.write_json(f"cells/{cell.key}/failed.json", {"label": cell.label, "reason": why})
            log.warning("cell %s failed: %s; the others go on", cell.label, why)
            failures.append(f"{cell.label}: {why}")
        else:
            say(f"cell {place} of {len(missing)}: done in {duration(took)}")

    in_worker = ray.remote(num_cpus=0, max_retries=0)(run_cell)
    if parallel == 1:
        for place, cell in enumerate(missing, 1):
            run(place, cell)
    else:
        with ThreadPoolExecutor(parallel) as pool:
            list(pool.map(run, range(1, len(missing) + 1), missing))
    return failures


def run_cell(cell: Cell, store: Store, jobs: Jobs, device: str, keep_models: bool) -> float:
    """Trains and evaluates one cell; cell.json is written last. Returns the seconds it took."""
    begun = time.time()
    folder = store.within(f"cells/{cell.key}")
    facts: Row = {"label": cell.label, "settings": cell.arm.settings, "seed": cell.seed,
                  "evaluation": cell.evaluate.name}  # fmt: skip
    if cell.train is not None:
        facts["model"] = cell.train.name
        if not store.exists(f"models/{cell.train.name}"):  # deleted by keep_models=false
            store.delete(f"training/{cell.train.name}/manifest.json")
        facts["training"] = jobs.train(cell.train, device).metrics
    trained = time.time()
    result = jobs.evaluate(cell.evaluate, device)
    items = store.read_table(f"evaluations/{cell.evaluate.name}/items.parquet", ITEM_COLUMNS)
    folder.write_table("items.parquet", items)
    facts["scores"] = result.results["runs"][0]["scores"]
    facts["train_s"], facts["evaluate_s"] = trained - begun, time.time() - trained
    folder.delete("failed.json")
    folder.write_json("cell.json", json.loads(json.dumps(facts, default=str)))
    if cell.train is not None:  # what only a training that goes on would need
        store.delete(f"training/{cell.train.name}/checkpoints")
        if not keep_models:
            store.delete(f"models/{cell.train.name}")
    return time.time() - begun
