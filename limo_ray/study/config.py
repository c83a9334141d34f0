"""The schema of conf/study: a grid of curations, trainings and evaluations, and its questions."""

import json
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from limo_ray.core import config as configs
from limo_ray.core import presets
from limo_ray.core.checks import check_at_least, check_folder_name, check_one_of
from limo_ray.core.text import did_you_mean
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.select import METHODS
from limo_ray.evaluate.config import EvaluateConfig
from limo_ray.problems import inputs
from limo_ray.storage.model_files import split_revision
from limo_ray.train.config import TrainConfig

Settings = dict[str, Any]

BANDS = ("L1", "L2", "L3", "L4", "L5")
BUDGETS = ("steps", "tokens", "epochs")
SCHEMAS: dict[str, type] = {
    "curate": CurateConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
}
ARMS = {
    "examples": "how many are chosen: a whole number from 1",
    "selection": f"one of {', '.join(METHODS)}",
    "quality": f"one of {', '.join(BANDS)}: fifths of the chains by score, L5 the highest",
    "difficulty": "a band of pass rates such as 0.25-0.5: above 0.25, at most 0.5",
    "set": "kept (by the difficulty rule) or pool (any problem with a chain)",
    "model": "the model that is trained",
    "teacher": "whose chains: a teacher's name, or strong",
    "seed": "of the training, and of what is chosen at random: a whole number from 0",
}
UNTRAINED = "untrained"


@dataclass(kw_only=True, slots=True)
class ComparisonConfig:
    """A question that is asked before the study: every arm that matches `a`, minus the same arm
    with the settings of `b` laid over, and the mean over all such pairs."""

    name: str = ""
    """What it is called in report and results; made from a and b when empty."""
    a: Settings = field(default_factory=dict)
    """Settings of the first arm, such as {selection: limo, examples: 96}."""
    b: Settings = field(default_factory=dict)
    """Those in which the second differs: {selection: random}; {untrained: true} for the model
    before training."""
    benchmark: str = ""
    """Only on this one; empty: a comparison on each."""


@dataclass(kw_only=True, slots=True)
class AssumeConfig:
    """What --dry-run assumes where no cell of the store tells."""

    rate: float = 0.3
    """Score that the arms are near."""
    alike: float = 0.5
    """Share of the attempts' variance that items explain: 1 if each is always solved or never."""
    item_sd: float = 0.1
    """Standard deviation over items of the difference of two arms' true rates."""
    seed_sd: float = 0.01
    """Standard deviation of a model's score over training seeds."""
    example_tokens: int = 0
    """Of one training example; 0: half of train.rows.max_tokens."""
    completion_tokens: int = 0
    """Of one attempt of the evaluation; 0: half of its max_tokens."""
    train_tokens_per_s: float = 0.0
    """Of all workers together; 0: not known, and no time is given."""
    sample_tokens_per_s: float = 0.0
    """Of the evaluation's engine."""
    start_s: float = 60.0
    """Seconds of a cell outside training steps and sampling."""
    price_per_gpu_hour: float = 0.0
    """0: no cost is given."""

    def check(self) -> None:
        for name in ("rate", "alike"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} must be between 0 and 1")
        for name in (
            "item_sd", "seed_sd", "example_tokens", "completion_tokens", "train_tokens_per_s",
            "sample_tokens_per_s", "start_s", "price_per_gpu_hour",
        ):  # fmt: skip
            check_at_least(name, getattr(self, name), 0)


@dataclass(kw_only=True, slots=True)
class StudyConfig:
    name: str = "study"
    """Of the folder of results: <store>/studies/<name>."""
    store: str = "store"
    """Folder or URI (s3://, gs://) of everything; cells in it are shared between studies."""
    curate: Settings = field(default_factory=dict)
    """Keys of a curation; `preset` names a file that they go over."""
    train: Settings = field(default_factory=dict)
    """Keys of a training, likewise."""
    evaluate: Settings = field(default_factory=dict)
    """Keys of an evaluation, likewise."""
    axes: dict[str, list[Any]] = field(default_factory=dict)
    """Values of named arms (examples, selection, quality, difficulty, set, model, teacher, seed) or
    of dotted keys (train.optimizer.lr); cells are their full product."""
    cells: list[Settings] = field(default_factory=list)
    """Settings of cells; each is multiplied by the axes that it does not name. Empty: the axes."""
    budget: str = "tokens"
    """What every training has as much of: tokens (the same optimizer steps and the same learned
    tokens), steps (the same steps of train.batch.examples) or epochs (larger sets train longer)."""
    steps: int = 0
    """Optimizer steps with budget tokens or steps; 0: what the largest set takes for
    train.optimizer.epochs."""
    tokens_per_step: int = 0
    """Learned tokens with budget tokens; 0: the mean of train.batch.examples examples."""
    comparisons: list[ComparisonConfig] = field(default_factory=list)
    """The questions; empty: every other selection against random. Holm's correction is over these
    alone."""
    random_arm: bool = True
    """Each arm has one beside it that chooses as many at random."""
    untrained: bool = True
    """The models are evaluated before training too."""
    against: list[str] = field(default_factory=list)
    """Other studies of this store whose curves are drawn beside these."""
    kept_per_example: float = 3.0
    """Problems to choose from for each example chosen, or the study is refused: a selection of
    nearly all selects nothing."""
    max_parallel: int = 1
    """Cells under way at once; each asks Ray for what train and evaluate ask."""
    keep_models: bool = True
    """Keep the trained models; false deletes each after its evaluation."""
    assume: AssumeConfig = field(default_factory=AssumeConfig)

    def check(self) -> None:
        check_folder_name(self.name)
        check_one_of("budget", self.budget, BUDGETS)
        for name, least in (("steps", 0), ("tokens_per_step", 0), ("kept_per_example", 1),
                            ("max_parallel", 1)):  # fmt: skip
            check_at_least(name, getattr(self, name), least)
        for key, values in self.axes.items():
            if not values:
                raise ValueError(f"axes.{key}: has no values")
        named = [(f"axes.{key}", {key: v}) for key, values in self.axes.items() for v in values]
        named += [(f"cells[{place}]", cell) for place, cell in enumerate(self.cells)]
        for where, settings in named:
            self._check_settings(where, settings)
        for place, asked in enumerate(self.comparisons):
            for side in ("a", "b"):
                settings = {k: v for k, v in getattr(asked, side).items() if k != UNTRAINED}
                self._check_settings(f"comparisons[{place}].{side}", settings)
        if len(set(self.comparison_names())) < len(self.comparisons):
            raise ValueError("comparisons: names must differ")
        if self.base("train", {}).rows.held_out:
            raise ValueError(
                "train: rows.held_out must be 0: it would take examples from small arms"
            )
        if not self.curate:
            raise ValueError("curate: none given (a preset, or keys of a curation)")
        for part in ("curate", "evaluate"):
            self.base(part, {})

    def inputs(self) -> list[inputs.Input]:
        """What its curation, trainings and evaluations need from elsewhere."""
        grid = [cell.get("model") for cell in self.cells] + self.axes.get("model", [])
        models = dict.fromkeys(filter(None, [self.base("train", {}).model, *grid]))
        benchmarks = (i for i in self.base("evaluate", {}).inputs() if i.what == "benchmark")
        return [
            *self.base("curate", {}).inputs(),
            *(inputs.of_model(*split_revision(model)) for model in models),
            *benchmarks,
        ]

    def comparison_names(self) -> list[str]:
        return [asked.name or f"{show(asked.a)} against {show(asked.b)}"
                for asked in self.comparisons]  # fmt: skip

    def base(self, part: str, settings: Settings) -> Any:
        """The config of curate, train or evaluate, with those of a cell's dotted keys laid over.

        Raises ValueError that begins with the part.
        """
        values = {"store": self.store} | {k: v for k, v in getattr(self, part).items()
                                          if k != "preset"}  # fmt: skip
        if part == "train":  # set for each cell
            values = {"data": "chosen by the study"} | values
        preset = getattr(self, part).get("preset")
        dotted = {key: value for key, value in settings.items() if key.startswith(f"{part}.")}
        try:
            return _load(part, preset, json.dumps(values), json.dumps(dotted))
        except configs.ConfigError as error:
            raise ValueError(f"{part}: {error}") from None

    def _check_settings(self, where: str, settings: Settings) -> None:
        for key, value in settings.items():
            part = key.partition(".")[0]
            if "." in key and part in SCHEMAS:
                try:
                    self.base(part, {key: value})
                except ValueError as error:
                    raise ValueError(f"{where}: {error}") from None
            elif key in ARMS:
                if problem := _refusal(key, value):
                    raise ValueError(f"{where}: {problem}")
            else:
                hint = did_you_mean(key, ARMS)
                raise ValueError(
                    f"{where}: {key!r} is neither an arm ({', '.join(ARMS)}) nor a key of curate, "
                    f"train or evaluate such as train.optimizer.lr{hint}"
                )


def _refusal(key: str, value: Any) -> str:
    """Why an arm cannot have a value; empty if it can."""
    number = isinstance(value, int) and not isinstance(value, bool)
    fine = {
        "examples": lambda: number and value >= 1,
        "seed": lambda: number and value >= 0,
        "selection": lambda: value in METHODS,
        "quality": lambda: value in BANDS,
        "set": lambda: value in ("kept", "pool"),
        "difficulty": lambda: isinstance(value, str) and _is_band(value),
    }.get(key, lambda: isinstance(value, str) and bool(value))
    return "" if fine() else f"{key}: {value!r} must be {ARMS[key]}"


def _is_band(text: str) -> bool:
    if not re.fullmatch(r"[\d.]+-[\d.]+", text):
        return False
    try:
        low, high = band(text)
    except ValueError:
        return False
    return 0 <= low < high <= 1


def band(text: str) -> tuple[float, float]:
    """Ends of a band of pass rates."""
    low, _, high = text.partition("-")
    return float(low), float(high)


def show(settings: Settings) -> str:
    """Settings as a reader names them: `limo, 24 examples`."""
    words = []
    for key, value in settings.items():
        if key == UNTRAINED:
            words.append(UNTRAINED)
        elif key == "examples":
            words.append(f"{value:,} examples")
        elif key == "selection" or key == "quality":
            words.append(str(value))
        elif key == "model":
            words.append(Path(str(value)).name)
        elif key == "set":
            words.append(f"from the {'kept problems' if value == 'kept' else 'whole pool'}")
        elif key == "difficulty":
            words.append(f"pass rate {value}")
        else:
            words.append(f"{key.rpartition('.')[2]} {value}")
    return ", ".join(words) or "all"


@lru_cache(maxsize=256)
def _load(part: str, preset: str | None, values: str, dotted: str) -> Any:
    """The config of one job, read once: nobody changes it in place."""
    overrides = [f"{key.partition('.')[2]}={json.dumps(value)}"
                 for key, value in json.loads(dotted).items()]  # fmt: skip
    files = [presets.found(preset)] if preset else []
    return configs.load(SCHEMAS[part], [*files, *overrides], json.loads(values))
