"""The command `limo-ray`: one entry in COMMANDS for each job and tool.

    limo-ray curate laptop seed=3

Modules are named by text and imported when their command runs, so that `--help` is quick and needs
neither torch nor Ray.
"""

import sys
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from limo_ray.core.console import say
from limo_ray.core.text import did_you_mean


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    summary: str
    """One line for the list of commands."""
    usage: str
    """Arguments, and further lines of examples."""
    main: str = ""
    """module:function of a tool, called with its arguments; empty for a job."""
    schema: str = ""
    """module:class of a job's config."""
    run: str = ""
    """module:function that does the job."""
    outline: str = ""
    """module:function that says what the job would do."""
    presets: tuple[str, ...] = ()
    """Folders of conf/ with its presets; the default preset comes from the first."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of limo_ray.cli.job.main."""

    def call(self, argv: list[str]) -> int:
        """Runs it; returns the exit code."""
        if self.main:
            code: int = named(self.main)(argv)
            return code
        from limo_ray.cli import job

        return job.main(
            self.presets[0],
            named(self.schema),
            lambda *given: named(self.run)(*given),
            lambda *given: named(self.outline)(*given),
            argv,
            presets=self.presets,
            **self.options,
        )


COMMANDS = {
    "curate": Command(
        summary="from a problem pool to a published set of examples",
        usage="[preset ...] [key=value ...] [--dry-run] [--check]\n"
        "laptop seed=3\n"
        "limo store=s3://bucket/limo difficulty.stop_after_kept=500",
        schema="limo_ray.curate.config:CurateConfig",
        run="limo_ray.curate.pipeline:curate",
        outline="limo_ray.curate.outline:outline",
        presets=("curate",),
    ),
    "train": Command(
        summary="from examples to a model folder that vLLM and transformers load",
        usage="[preset ...] [key=value ...] [--dry-run] [--check]\n"
        "laptop data=store/runs/laptop optimizer.epochs=4",
        schema="limo_ray.train.config:TrainConfig",
        run="limo_ray.study.training:train",
        outline="limo_ray.train.sft:outline",
        presets=("train",),
        options={"worker_logs": False},
    ),
    "rl": Command(
        summary="from a model and verified problems to a better one: reinforcement learning",
        usage="[preset ...] [key=value ...] [--dry-run] [--check]\n"
        "laptop steps=20\n"
        "limo model=store/models/limo run=store/runs/limo",
        schema="limo_ray.rl.config:RLConfig",
        run="limo_ray.rl.job:reinforce",
        outline="limo_ray.rl.job:outline",
        presets=("rl",),
        options={"worker_logs": False},
    ),
    "evaluate": Command(
        summary="how good a model is, how sure that is, and whether it beats another",
        usage="[preset ...] [key=value ...] [--dry-run] [--check]\n"
        "laptop model=store/models/laptop\n"
        "limo endpoint=http://host:8000/v1",
        schema="limo_ray.evaluate.config:EvaluateConfig",
        run="limo_ray.evaluate.runner:evaluate",
        outline="limo_ray.evaluate.outline:outline",
        presets=("evaluate",),
    ),
    "serve": Command(
        summary="an OpenAI-compatible endpoint for a model, on Ray Serve and vLLM",
        usage="[preset ...] [key=value ...] [--dry-run] [--check]\n"
        "laptop model=store/models/laptop port=8000",
        schema="limo_ray.serve.config:ServeConfig",
        run="limo_ray.serve.job:serve",
        outline="limo_ray.serve.job:outline",
        presets=("serve",),
        # somebody waits for the workers: they have the priority of any other program
        options={"worker_logs": False, "niceness": 0},
    ),
    "study": Command(
        summary="is less more: many sets of examples, trained, evaluated and compared",
        usage="[preset ...] [key=value ...] [--dry-run]\n"
        "laptop\n"
        "limo_size store=s3://bucket/limo max_parallel=4",
        schema="limo_ray.study.config:StudyConfig",
        run="limo_ray.study.job:study",
        outline="limo_ray.study.outline:outline",
        presets=("study",),
        options={"worker_logs": False},
    ),
    "plan": Command(
        summary="what a curation will take on a cluster, before it is started",
        usage="[preset ...] [key=value ...] [--dry-run] [--check]\n"
        "limo pool_rows=10_000_000\n"
        "laptop plan/laptop pilot=store/runs/pilot",
        schema="limo_ray.plan.config:PlanConfig",
        run="limo_ray.plan.job:plan",
        outline="limo_ray.plan.job:outline",
        presets=("curate", "plan"),
        options={"needs_ray": lambda _: False},
    ),
    "status": Command(
        summary="how runs stand, read from their store alone, while they run and after",
        usage="<store> [name] [--json]\nstore laptop",
        main="limo_ray.cli.status:main",
    ),
    "textbook": Command(
        summary="the chosen problems of a run as a page to study from, or to print",
        usage="<store>/runs/<name> [--by KEY] [--pdf]\nstore/runs/laptop --pdf",
        main="limo_ray.cli.textbook:main",
    ),
    "export": Command(
        summary="a run's kept problems as Parquet for RL trainers",
        usage="<store>/runs/<name> verl|trl <file.parquet>\n"
        "store/runs/laptop verl problems.parquet",
        main="limo_ray.runs.rl_export:main",
    ),
    "setup": Command(
        summary="installs the engine for machines without a GPU",
        usage="cpu",
        main="limo_ray.cli.setup:main",
    ),
    "completion": Command(
        summary="prints what completes commands, presets and keys in a shell",
        usage='bash | zsh\nbash >> ~/.bashrc    # or: eval "$(limo-ray completion zsh)"',
        main="limo_ray.cli.completion:main",
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns the exit code: that of the command, or 2 for one that is none."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("--help", "-h", "help"):
        say(named("limo_ray.cli.help:overview")(COMMANDS))
        return 0
    if name == "--version":
        say(import_module("limo_ray").__version__)
        return 0
    if name == "complete":  # asked by the scripts that `completion` prints
        say("\n".join(named("limo_ray.cli.completion:candidates")(COMMANDS, rest)))
        return 0
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS)
        sys.stderr.write(f"{name}: unknown command{hint} (limo-ray --help lists them)\n")
        return 2
    if "--help" in rest or "-h" in rest:
        about = [argument for argument in rest if not argument.startswith("-")]
        say(named("limo_ray.cli.help:details")(name, COMMANDS[name], *about[:1]))
        return 0
    return COMMANDS[name].call(rest)


def named(path: str) -> Any:
    """What `module:name` names, imported now."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
