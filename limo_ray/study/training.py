"""A training whose student is scored on the way by our own evaluation (see train.scores)."""

from typing import Any

from limo_ray.core import config as configs
from limo_ray.core import presets
from limo_ray.evaluate.config import EvaluateConfig
from limo_ray.evaluate.runner import evaluate
from limo_ray.train import scores, sft
from limo_ray.train.config import TrainConfig


def train(config: TrainConfig, device: str) -> sft.TrainResult:
    """As train.sft.train, with what `scores` needs.

    Raises ValueError, beginning with `scores`, for an evaluation that cannot be.
    """
    return sft.train(config, device, scorer(config, device) if config.scores else None)


def scorer(config: TrainConfig, device: str) -> scores.Evaluate:
    """Evaluates a model folder under a name; the evaluation's config is checked right away."""
    settings = config.scores
    assert settings is not None

    def asked(model: str, name: str) -> EvaluateConfig:
        values = {"store": config.store} | settings.evaluate | {"model": model, "name": name}
        preset = values.pop("preset", None)
        try:
            return configs.load(EvaluateConfig, [presets.found(preset)] if preset else [], values)
        except configs.ConfigError as error:
            raise ValueError(f"scores.evaluate: {error}") from None

    first = asked("student", "student")
    names = [benchmark.name for benchmark in first.chosen()]
    benchmark = settings.benchmark or names[0]
    if benchmark not in names:
        raise ValueError(f"scores.benchmark: {benchmark!r} is none of {', '.join(names)}")

    def score(model: str, name: str) -> dict[str, float]:
        result = evaluate(asked(model, name), device)
        found: dict[str, Any] = result.results["runs"][0]["scores"][benchmark]["pass@1"]
        return {end: found[end] for end in ("value", "low", "high")}

    return score
