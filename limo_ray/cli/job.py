"""What all jobs share: presets and overrides in, Ray started, mistakes told in one line.

    limo-ray curate [preset ...] [key.path=value ...] [--dry-run] [--check]

`--dry-run` prints the config, the plan and what the job needs from elsewhere; `--check` also asks
whether that can be had, and fails where it cannot.

Exit codes: 0 done, 1 the job failed (or a curation chose no example), 2 the config is wrong, 130
interrupted (Ctrl-C, SIGTERM). In `ray job submit` they make SUCCEEDED, FAILED, FAILED and, after
`ray job stop`, STOPPED.
"""

import errno
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from limo_ray.cli.presets import FOLDER, resolve
from limo_ray.core import config as configs
from limo_ray.core.console import say
from limo_ray.core.errors import LimoError, reason
from limo_ray.core.uris import redact

if TYPE_CHECKING:
    from limo_ray.problems.inputs import Input


class Config(Protocol):
    """The config of a job."""

    def inputs(self) -> list["Input"]: ...


Schema = TypeVar("Schema", bound=Config)


class Result(Protocol):
    """What a job returns; `exit_code`, where it has one, is the command's."""

    def summary(self) -> str: ...


def main(
    job: str,
    schema: type[Schema],
    run: Callable[[Schema, str], "Result"],
    outline: Callable[[Schema, str], str],
    argv: list[str],
    *,
    worker_logs: bool = True,
    niceness: int = 15,
    needs_ray: Callable[[Schema], bool] = lambda config: True,
    presets: tuple[str, ...] = (),
) -> int:
    """Loads the config, connects to Ray, runs the job; returns the exit code.

    Args:
        job: folder of its presets in conf/.
        schema: of its config.
        run: the job, called with the config and the cluster's device (gpu or cpu); what its result
            sums up is printed.
        outline: what the job would do, in text.
        argv: presets, overrides, --dry-run, --check.
        worker_logs: also print what Ray's workers do, on a local cluster.
        niceness: of Ray's workers on a local cluster; 15 is Ray's own, below all else.
        needs_ray: whether the job of a config uses Ray; it is not started for one that does not.
        presets: folders of conf/ whose presets may be named; `job` alone unless given.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    check = "--check" in argv
    dry = check or "--dry-run" in argv
    arguments = [argument for argument in argv if argument not in ("--dry-run", "--check")]
    unknown = [argument for argument in arguments if argument.startswith("-")]
    if unknown:
        return _wrong(f"{unknown[0]}: unknown option (there are --dry-run and --check)")
    config: Schema | None = None
    try:
        arguments = resolve(presets or (job,), arguments)
        if any("=" not in argument for argument in arguments):
            config = configs.load(schema, arguments)  # a mistake is told before Ray starts
        from limo_ray.cli import ray_cluster  # Ray is imported where a job needs it

        device = "cpu"
        if config is None or needs_ray(config):
            device = ray_cluster.start_ray(log_to_driver=worker_logs, niceness=niceness)
        else:
            ray_cluster.interrupt_on_sigterm()
        if all("=" in argument for argument in arguments):
            preset = FOLDER / job / ("limo.yaml" if device == "gpu" else "laptop.yaml")
            has = "has GPUs" if device == "gpu" else "has no GPU"
            say(f"no preset named and the Ray cluster {has}: using conf/{job}/{preset.name}")
            config = configs.load(schema, [str(preset), *arguments])
        assert config is not None
        from limo_ray.problems import inputs
        from limo_ray.storage.hub import use_cache_if_unreachable

        needed = config.inputs()
        on_hub = needs_ray(config) and any(each.place == "hub" for each in needed)
        if on_hub and (why := use_cache_if_unreachable()):
            say(f"{why}: only what is cached can be used. HF_ENDPOINT names a mirror")
        if dry:
            planned = redact(outline(config, device))
            say(f"# resolved config\n{configs.as_yaml(config)}\n# plan\n{planned}")
            return 0 if inputs.show(needed, check=check) or not check else 1
        result = run(config, device)
        say(result.summary())
        return getattr(result, "exit_code", 0)
    except configs.ConfigError as error:
        return _wrong(str(error))
    except OSError as error:
        return _failed(f"{error}{_advice(error)}")
    except (ValueError, LimoError) as error:
        return _failed(str(error))
    except _ray_errors() as error:
        return _failed(reason(error))
    except KeyboardInterrupt:
        _failed("interrupted: the same command goes on where this one stopped")
        return 130
    finally:
        if ray := sys.modules.get("ray"):
            ray.shutdown()


def _advice(error: OSError) -> str:
    """What to do about a file or folder that cannot be written; "" where nothing is known."""
    code = error.errno or 0
    if code == errno.ENOSPC or "No space left" in str(error):
        return ": the disk is full. Free some space, or set store to a folder on another disk"
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ": this user cannot write there. Set store to a folder that it can write"
    if code in (errno.ENOTDIR, errno.EEXIST):
        return ": this is a file. Set store to a folder"
    return ""


def _ray_errors() -> tuple[type[Exception], ...]:
    """Ray's errors, if Ray was imported: `--help` and wrong configs do without."""
    ray = sys.modules.get("ray")
    return (ray.exceptions.RayError,) if ray else ()


def _wrong(text: str) -> int:
    sys.stderr.write(f"config error: {redact(text)}\n")
    return 2


def _failed(text: str) -> int:
    sys.stderr.write(f"failed: {redact(text)}\n")
    return 1
