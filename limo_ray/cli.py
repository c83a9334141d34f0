"""What all jobs share: presets and overrides in, Ray started, mistakes told in one line.

    python jobs/curate.py [preset.yaml ...] [key.path=value ...] [--dry-run]

Exit codes: 0 done, 1 the job failed, 2 the config is wrong, 130 interrupted (Ctrl-C, SIGTERM).
"""

import logging
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import ray
from ray.exceptions import RayError

from limo_ray import config as configs
from limo_ray.engine import EngineError
from limo_ray.train.watch import TrainingError
from limo_ray.verify import VerificationError

Schema = TypeVar("Schema")


class Result(Protocol):
    """What a job returns."""

    def summary(self) -> str: ...


PRESETS = Path(__file__).parent.parent / "conf"


def main(
    job: str,
    schema: type[Schema],
    run: Callable[[Schema, str], "Result"],
    plan: Callable[[Schema, str], str],
    argv: list[str],
    *,
    worker_logs: bool = True,
    niceness: int = 15,
    needs_ray: Callable[[Schema], bool] = lambda config: True,
) -> int:
    """Loads the config, connects to Ray, runs the job; returns the exit code.

    Args:
        job: folder of its presets in conf/.
        schema: of its config.
        run: the job, called with the config and the cluster's device (gpu or cpu); what its result
            sums up is printed.
        plan: what the job would do, in text.
        argv: presets, overrides, --dry-run.
        worker_logs: also print what Ray's workers do, on a local cluster.
        niceness: of Ray's workers on a local cluster; 15 is Ray's own, below all else.
        needs_ray: whether the job of a config uses Ray; it is not started for one that does not.
    """
    signal.signal(signal.SIGTERM, _interrupt)  # `ray job stop` and a preempted node say it so
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    dry = "--dry-run" in argv
    arguments = [argument for argument in argv if argument != "--dry-run"]
    unknown = [argument for argument in arguments if argument.startswith("-")]
    if unknown:
        return _wrong(f"{unknown[0]}: unknown option (presets, key=value and --dry-run are known)")
    config: Schema | None = None
    try:
        if any("=" not in argument for argument in arguments):
            config = configs.load(schema, arguments)  # a mistake is told before Ray starts
        device = "cpu"
        if config is None or needs_ray(config):
            start_ray(log_to_driver=worker_logs, niceness=niceness)
            signal.signal(signal.SIGTERM, _interrupt)  # again: Ray's own handler aborts
            device = "gpu" if ray.cluster_resources().get("GPU", 0) > 0 else "cpu"
        if all("=" in argument for argument in arguments):
            preset = PRESETS / job / ("limo.yaml" if device == "gpu" else "laptop.yaml")
            has = "has GPUs" if device == "gpu" else "has no GPU"
            say(f"no preset named and the Ray cluster {has}: using conf/{job}/{preset.name}")
            config = configs.load(schema, [str(preset), *arguments])
        assert config is not None
        if dry:
            say(f"# resolved config\n{configs.as_yaml(config)}\n# plan\n{plan(config, device)}")
            return 0
        say(run(config, device).summary())
        return 0
    except configs.ConfigError as error:
        return _wrong(str(error))
    except (ValueError, OSError, EngineError, TrainingError, VerificationError) as error:
        return _failed(str(error))
    except RayError as error:
        return _failed(reason(error))
    except KeyboardInterrupt:
        _failed("interrupted: the same command goes on where this one stopped")
        return 130
    finally:
        if ray.is_initialized():
            ray.shutdown()


def start_ray(*, log_to_driver: bool = True, niceness: int = 15) -> None:
    """Connects to the cluster that this runs in, or starts a local one on this machine's cores."""
    if ray.is_initialized():
        return
    # Token authentication guards clusters that are reachable by others; a local one is not.
    if not os.environ.get("RAY_ADDRESS"):
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        os.environ.setdefault("RAY_worker_niceness", str(niceness))
        # workers find this package too when the job was started from another folder
        paths = [str(PRESETS.parent), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(
        address=os.environ.get("RAY_ADDRESS"),
        include_dashboard=False if not os.environ.get("RAY_ADDRESS") else None,
        log_to_driver=log_to_driver,
        logging_level=logging.WARNING,
    )
    quiet()


def quiet() -> None:
    """Ray Data settings of every job and test."""
    # Ray Data logs every failure with pages of its own; `reason` tells ours in one line.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # limo_ray.progress shows what matters instead
    context.execution_options.verbose_progress = False
    context.execution_no_progress_timeout_s = -1  # a 32k-token tail can be silent for long
    context.max_consecutive_actor_init_deaths = 5
    context.default_hash_shuffle_parallelism = max(2, int(ray.cluster_resources().get("CPU", 2)))


OURS = re.compile(r"^limo_ray[\w.]*: (.+)$", re.M)
RAISED = re.compile(r"^[\w.]*(?:Error|Exception)\w*: (.+)$", re.M)


def reason(error: BaseException) -> str:
    """The cause of an error that crossed Ray, in one line: what our own code raised, if it did.

    Ray carries the cause only as the text of its traceback, the innermost exception first.
    """
    text = str(error)
    found = OURS.search(text) or RAISED.search(text)
    return found.group(1) if found else text.strip().splitlines()[-1]


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def say(text: str) -> None:
    """Prints at once, also into a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _wrong(text: str) -> int:
    sys.stderr.write(f"config error: {text}\n")
    return 2


def _failed(text: str) -> int:
    sys.stderr.write(f"failed: {text}\n")
    return 1
