"""What all jobs share: presets and overrides in, Ray started, mistakes told in one line.

    python jobs/curate.py [preset.yaml ...] [key.path=value ...] [--dry-run]

Exit codes: 0 done, 1 the job failed, 2 the config is wrong, 130 interrupted (Ctrl-C, SIGTERM). In
`ray job submit` they make SUCCEEDED, FAILED, FAILED and, after `ray job stop`, STOPPED.
"""

import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import ray
from ray.exceptions import AuthenticationError, RayError

from limo_ray.core import config as configs
from limo_ray.core.uris import redact
from limo_ray.engines.base import EngineError
from limo_ray.sampling import ray_data_settings
from limo_ray.train.watch import TrainingError
from limo_ray.verify import VerificationError

Schema = TypeVar("Schema")


class Result(Protocol):
    """What a job returns."""

    def summary(self) -> str: ...


PRESETS = Path(__file__).parents[2] / "conf"


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
            device = "gpu" if ray.cluster_resources().get("GPU", 0) > 0 else "cpu"
        else:
            signal.signal(signal.SIGTERM, _interrupt)
        if all("=" in argument for argument in arguments):
            preset = PRESETS / job / ("limo.yaml" if device == "gpu" else "laptop.yaml")
            has = "has GPUs" if device == "gpu" else "has no GPU"
            say(f"no preset named and the Ray cluster {has}: using conf/{job}/{preset.name}")
            config = configs.load(schema, [str(preset), *arguments])
        assert config is not None
        if dry:
            planned = redact(plan(config, device))
            say(f"# resolved config\n{configs.as_yaml(config)}\n# plan\n{planned}")
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
    """Connects to the cluster at $RAY_ADDRESS, or starts a local one on this machine's cores.

    `ray job submit` sets RAY_ADDRESS. A SIGTERM is a KeyboardInterrupt from here on.

    Raises:
        ConnectionError: no cluster is there, or it does not accept our token; one line says which.
    """
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS", "")
    if address.startswith("http"):
        raise ConnectionError(
            f"RAY_ADDRESS: {address} is a dashboard, which `ray job submit` talks to; a job "
            "started by hand connects to <host>:6379, or to auto on a machine of the cluster"
        )
    if address and not _answers(address):
        raise ConnectionError(f"RAY_ADDRESS: no Ray cluster answers at {address}")
    # Token authentication guards clusters that are reachable by others; a local one is not. On a
    # cluster Ray's own settings hold: RAY_AUTH_MODE, RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH.
    if not address:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        os.environ.setdefault("RAY_worker_niceness", str(niceness))
        # workers find this package too when the job was started from another folder
        paths = [str(PRESETS.parent), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=log_to_driver,
            logging_level=logging.WARNING,
        )
    except AuthenticationError as error:
        raise ConnectionError(_no_token(error)) from None
    except ConnectionError:
        raise ConnectionError(_refused(address)) from None
    signal.signal(signal.SIGTERM, _interrupt)  # `ray job stop` and a preempted node say it so
    ray_data_settings.configure()


def _no_token(error: AuthenticationError) -> str:
    if "RAY_AUTH_TOKEN_PATH" in error.message:
        return error.message
    return (
        "RAY_AUTH_MODE: token, but there is no token: set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, "
        "or put it into ~/.ray/auth_token"
    )


def _answers(address: str) -> bool:
    """Whether anything listens there: Ray would try for minutes. True for words such as auto."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or "://" in address:
        return True
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError:
        return False
    return True


def _refused(address: str) -> str:
    """Ray's own words for a wrong token are those for a cluster that is not there."""
    if address == "auto":
        return "RAY_ADDRESS: auto, but there is no Ray on this machine that lets this job in"
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token":
        return (
            f"RAY_AUTH_TOKEN: the Ray cluster at {address} refuses this token (of RAY_AUTH_TOKEN, "
            "RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token)"
        )
    return (
        f"RAY_AUTH_MODE: the Ray cluster at {address} does not let this job in: if it asks for a "
        "token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
    )


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
    sys.stderr.write(f"config error: {redact(text)}\n")
    return 2


def _failed(text: str) -> int:
    sys.stderr.write(f"failed: {redact(text)}\n")
    return 1
