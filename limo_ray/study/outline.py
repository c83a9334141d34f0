"""What a study would do, for --dry-run: its cells, their time and cost, and what it could find."""

from collections import Counter

from limo_ray.core.text import duration, number
from limo_ray.evaluate.config import BenchmarkConfig, EvaluateConfig
from limo_ray.evaluate.items import read_items
from limo_ray.problems.benchmarks import BENCHMARKS
from limo_ray.storage.store import Store
from limo_ray.study.cells import Arm, arms_of, comparisons_of
from limo_ray.study.config import StudyConfig
from limo_ray.study.sentences import BUDGETS
from limo_ray.study.statistics import planned_effect
from limo_ray.train.config import TrainConfig


def outline(config: StudyConfig, device: str) -> str:
    """The text; nothing is curated, trained or sampled."""
    arms = arms_of(config)
    cells = [(arm, seed) for arm in arms for seed in (arm.seeds if arm.trained else [0])]
    lines = [f"arms        {len(arms)}, {len(cells)} cells, at most {config.max_parallel} at once"]
    lines += [f"  {arm.label}" + (f", seeds {', '.join(map(str, arm.seeds))}" * arm.trained)
              for arm in arms]  # fmt: skip
    lines.append(f"budget      {BUDGETS[config.budget]}")
    asked = comparisons_of(config, arms)
    lines.append(f"comparisons {len(asked)}, named in advance")
    lines += [f"  {one.name}: {len(one.pairs)} pair(s) of arms" for one in asked]
    most = max(arm.settings["examples"] for arm in arms if arm.trained)
    lines.append(
        f"pool        needs {config.kept_per_example * most:,.0f} kept problems with a chain, for "
        f"{most:,} examples"
    )
    evaluation: EvaluateConfig = config.base("evaluate", {})
    attempts = 0
    fewest = min(Counter({arm.label: len(arm.seeds) for arm in arms if arm.trained}).values())
    for benchmark in evaluation.chosen():
        protocol = evaluation.protocol(benchmark)[1]
        items = items_of(benchmark, evaluation)
        if not items:
            lines.append(f"benchmark   {benchmark.name}: not read, its number of items not known")
            continue
        attempts += items * protocol.attempts
        effect = planned_effect(
            items=items, attempts=protocol.attempts, seeds=fewest, rate=config.assume.rate,
            alike=config.assume.alike, item_sd=config.assume.item_sd,
            seed_sd=config.assume.seed_sd,
        )  # fmt: skip
        lines.append(
            f"benchmark   {benchmark.name}: {items} items, {protocol.attempts} attempt(s) each; a "
            f"pair of arms with {fewest} seed(s) finds a difference of {100 * effect:.1f} points "
            "four times out of five (assumed: see `assume`; before Holm)"
        )
    lines += _cost(config, arms, attempts, evaluation, device)
    lines.append(f"output      {Store(config.store).shown}/studies/{config.name}")
    return "\n".join(lines)


def items_of(benchmark: BenchmarkConfig, evaluation: EvaluateConfig) -> int:
    """Items of a benchmark; 0 where they cannot be had and are not known."""
    try:
        return len(read_items(benchmark, evaluation.folder, evaluation.seed).problems)
    except ValueError:  # a dry run is also for a machine without the data
        known = BENCHMARKS.get(benchmark.name)
        return benchmark.items or (known.items if known else 0)


def _cost(
    config: StudyConfig, arms: list[Arm], attempts: int, evaluation: EvaluateConfig, device: str
) -> list[str]:
    """Time, GPU-hours and cost of all cells, without what the store has already."""
    assume = config.assume
    if not assume.train_tokens_per_s or not assume.sample_tokens_per_s:
        return ["time        not known: set assume.train_tokens_per_s and sample_tokens_per_s"]
    train_s = evaluate_s = train_gpu = evaluate_gpu = 0.0
    trained = [arm for arm in arms if arm.trained]
    most = max(arm.settings["examples"] for arm in trained)
    longest = max(one.sampling.max_tokens for one in evaluation.protocols.values())
    sampled = attempts * (assume.completion_tokens or longest / 2) / assume.sample_tokens_per_s
    engine = evaluation.engine
    gpus = engine.tensor_parallel * engine.pipeline_parallel
    on_gpu = device == "gpu" or engine.device == "gpu"
    for arm in arms:
        runs = len(arm.seeds) if arm.trained else 1
        evaluate_s += runs * (sampled + assume.start_s)
        evaluate_gpu += runs * (sampled + assume.start_s) * gpus * on_gpu
        if not arm.trained:
            continue
        training: TrainConfig = config.base("train", arm.settings)
        size = arm.settings["examples"] if config.budget == "epochs" else most
        steps = config.steps or training.optimizer.max_steps or (
            training.optimizer.epochs * -(-size // training.batch.examples)
        )  # fmt: skip
        tokens = steps * training.batch.examples * (
            assume.example_tokens or training.rows.max_tokens / 2
        )  # fmt: skip
        seconds = runs * (tokens / assume.train_tokens_per_s + assume.start_s)
        train_s += seconds
        train_gpu += (
            seconds * training.workers.count * (training.workers.device != "cpu" and on_gpu)
        )
    whole = (train_s + evaluate_s) / config.max_parallel
    lines = [f"time        {duration(whole)} beside the curation: {duration(train_s)} of training, "
             f"{duration(evaluate_s)} of evaluation, from what is assumed"]  # fmt: skip
    if hours := (train_gpu + evaluate_gpu) / 3600:
        price = assume.price_per_gpu_hour
        cost = f", {number(round(hours * price))} at {price:g} each" if price else ""
        lines.append(f"GPU-hours   {number(round(hours))}{cost}")
    return lines
