"""Scores of the student while it is trained: training and evaluation take turns.

    train to the end of an epoch -> evaluate <store>/models/<name> -> train on from its checkpoint

An evaluation so has all of the machine, and what has been scored is in <store>/training/<name>/
scores.json: the same command goes on after it. How to evaluate comes from above: training knows no
evaluation.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from limo_ray.core.console import say
from limo_ray.storage.store import Store
from limo_ray.train.batches import Schedule
from limo_ray.train.config import TrainConfig

Evaluate = Callable[[str, str], dict[str, float]]
"""From a model folder and the evaluation's name to value, low and high of the score."""


class Scores:
    """The scores of one training, in the order of its epochs."""

    def __init__(
        self, config: TrainConfig, store: Store, schedule: Schedule, key: str,
        evaluate: Evaluate | None,
    ) -> None:  # fmt: skip
        """Reads what was scored before.

        Raises ValueError when the config wants scores and nothing can give them.
        """
        if config.scores and evaluate is None:
            raise ValueError("scores: need an evaluation: call limo_ray.study.training.train")
        self.config = config
        self.store = store
        self.schedule = schedule
        self.key = key
        self.evaluate = evaluate
        self.file = f"training/{config.name}/scores.json"
        found = store.read_json(self.file) or {}
        self.found: list[dict[str, Any]] = found["scores"] if found.get("key") == key else []

    def ends(self) -> Iterator[int]:
        """Steps at which to stop and score; the last of the training always, for its model."""
        last = self.schedule.steps
        settings = self.config.scores
        each = settings.every_epochs * self.schedule.per_epoch if settings else last
        done = max((score["step"] for score in self.found), default=0)
        ends = [*(end for end in range(each, last, each) if end > done), last]
        for end in [done] if self.enough() else ends:
            yield end
            if self.enough():
                return

    def enough(self) -> bool:
        """Whether the newest scores, as many as `patience`, are all no better than the best."""
        patience = self.config.scores.patience if self.config.scores else 0
        values = [score["value"] for score in self.found]
        return 0 < patience < len(values) and max(values[-patience:]) <= max(values[:-patience])

    def add(self, step: int) -> None:
        """Evaluates the model as it is after this step, and keeps the best."""
        if self.evaluate is None or any(score["step"] == step for score in self.found):
            return
        epoch = step / self.schedule.per_epoch
        model = f"models/{self.config.name}"
        name = f"{self.config.name}-step-{step}"
        score = {
            "step": step,
            "epoch": epoch,
            **self.evaluate(self.store.within(model).shown, name),
        }
        earlier = [past["value"] for past in self.found]
        if self.config.checkpoint.best and score["value"] > max(earlier, default=-1.0):
            self._copy(model, f"training/{self.config.name}/best")
        self.found.append(score)
        self.store.write_json(self.file, {"key": self.key, "scores": self.found})
        interval = f"{score['low']:.3f} to {score['high']:.3f}"
        say(f"score after epoch {epoch:g}: {score['value']:.3f} ({interval})")
        if self.enough() and step < self.schedule.steps:
            say("no better score since: stopping early")

    def _copy(self, folder: str, target: str) -> None:
        root = self.store.path(folder)
        files = self.store.filesystem.get_file_info(pafs.FileSelector(root, recursive=True))
        with tempfile.TemporaryDirectory(prefix="limo_ray-best-") as made:
            for file in files:
                if file.is_file:
                    name = file.path.removeprefix(root).lstrip("/")
                    (Path(made) / name).parent.mkdir(parents=True, exist_ok=True)
                    self.store.copy_out(f"{folder}/{name}", Path(made) / name)
            self.store.copy_folder_in(Path(made), target, last="config.json")

    def metrics(self) -> dict[str, Any]:
        return {"scores": self.found} if self.config.scores else {}
