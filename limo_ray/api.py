"""The jobs as functions, for notebooks and scripts.

    from limo_ray import curate, open_run
    result = curate("laptop", seed=3, sources=[{"path": "my.csv", "question": "q", "answer": "a"}])
    open_run(result.folder).examples()

Presets and settings are those of the command: names or paths of presets, then keys. A setting is a
plain value, a list, or a mapping that is merged into its section; a key with dots is given as
**{"difficulty.stop_after_kept": 5}. Ray is started on this machine, or joined at $RAY_ADDRESS, and
stays up.
"""

import json
from typing import TYPE_CHECKING, Any, cast

from limo_ray.cli.commands import COMMANDS, named
from limo_ray.cli.presets import resolve
from limo_ray.core import config as configs

if TYPE_CHECKING:
    from limo_ray.curate.outputs import RunResult
    from limo_ray.evaluate.runner import EvaluateResult
    from limo_ray.rl.job import RLResult
    from limo_ray.train.sft import TrainResult


def load_config(job: str, *presets: str, **settings: Any) -> Any:
    """The config of a job: curate, train, evaluate, serve or plan.

    Raises:
        ValueError: no such job.
        ConfigError: a preset, a key or a value is wrong; one line says which and where.
    """
    command = COMMANDS.get(job)
    if command is None or not command.schema:
        jobs = ", ".join(name for name, each in COMMANDS.items() if each.schema)
        raise ValueError(f"job: {job!r} is none of {jobs}")
    # JSON is YAML: every value is read back as it is
    overrides = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    return configs.load(named(command.schema), [*resolve(command.presets, [*presets]), *overrides])


def curate(*presets: Any, **settings: Any) -> "RunResult":
    """Runs a curation; returns its folder and counts.

    Args:
        presets: names or paths, merged from left to right; or one config of `load_config`.
        settings: keys that go before the presets'.

    Raises:
        ConfigError: as load_config.
        LimoError, OSError, ray.exceptions.RayError: the job failed.
    """
    return cast("RunResult", _run("curate", presets, settings))


def train(*presets: Any, **settings: Any) -> "TrainResult":
    """Runs a training; returns the model folder and figures. Arguments as those of `curate`."""
    return cast("TrainResult", _run("train", presets, settings))


def rl(*presets: Any, **settings: Any) -> "RLResult":
    """Runs a reinforcement learning; returns the model folder and figures. As `train`."""
    return cast("RLResult", _run("rl", presets, settings))


def evaluate(*presets: Any, **settings: Any) -> "EvaluateResult":
    """Runs an evaluation; returns folder and scores. Arguments as those of `curate`."""
    return cast("EvaluateResult", _run("evaluate", presets, settings))


def _run(job: str, presets: tuple[Any, ...], settings: dict[str, Any]) -> Any:
    command = COMMANDS[job]
    if len(presets) == 1 and not isinstance(presets[0], str):
        if settings:
            raise ValueError(f"{next(iter(settings))}: give settings to load_config, not here")
        config = presets[0]
    else:
        config = load_config(job, *presets, **settings)
    from limo_ray.cli.ray_cluster import start_ray

    device = start_ray(log_to_driver=command.options.get("worker_logs", True))
    return named(command.run)(config, device)
