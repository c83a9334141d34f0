"""What a training shows while it runs: the driver's live view, TensorBoard, W&B, MLflow."""

import logging
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import ray
from rich.table import Table

from limo_ray.core.console import LiveView
from limo_ray.core.text import duration
from limo_ray.runs import heartbeat
from limo_ray.storage.store import Store

log = logging.getLogger(__name__)

SHOWN = ("loss", "held_out_loss", "lr", "grad_norm", "tokens_per_s", "share_of_peak")


class TrainingState:
    """A Ray actor with the history of a training and its newest facts."""

    def __init__(self) -> None:
        self.history: list[dict[str, Any]] = []
        self.facts: dict[str, Any] = {}

    def begin(self, history: list[dict[str, Any]]) -> None:
        self.history = list(history)

    def step(self, row: dict[str, Any]) -> None:
        self.history.append(row)

    def fact(self, name: str, value: Any) -> None:
        self.facts[name] = value

    def saved(self, step: int) -> None:
        self.facts.setdefault("checkpoints", []).append(step)

    def snapshot(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        return self.history, self.facts


class Trackers:
    """Sends the first worker's figures to the state actor and all trackers; others send nothing."""

    def __init__(
        self, job: Any, history: list[dict[str, Any]], *, first: bool,
        folder: str = "training", shown: tuple[str, ...] = SHOWN,
    ) -> None:  # fmt: skip
        """`folder` of the store has the run; `shown` are the figures that are sent."""
        self.shown = shown
        self.tag = "train" if folder == "training" else folder
        self.state: Any = None
        self.others: list[Any] = []
        self.resumed = bool(history)  # from a checkpoint of its last step
        if not first:
            return
        self.state = job.state
        ray.get(self.state.begin.remote(history))
        if self.resumed:
            ray.get(self.state.saved.remote(len(history)))
        self.store: Store = job.store
        self.folder = f"{folder}/{job.config.name}/tensorboard"
        local = "://" not in self.store.uri
        self.events = Path(self.store.path(self.folder)) if local else Path(tempfile.mkdtemp())
        self.uploads = not local
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(str(self.events), purge_step=len(history) + 1, flush_secs=10)
        self.others = [TRACKERS[name](job.config) for name in job.config.watch.trackers]

    def begin(self, held_out: float | None) -> None:
        """The held-out loss before the first step, if anything is held out."""
        if self.state is not None and held_out is not None:
            ray.get(self.state.fact.remote("held_out_before", held_out))
            if not self.resumed:
                self._write(0, {"held_out_loss": held_out})

    def step(self, row: dict[str, Any]) -> None:
        if self.state is not None:
            ray.get(self.state.step.remote(row))
            self._write(row["step"], row)

    def saved(self, step: int) -> None:
        if self.state is not None:
            ray.get(self.state.saved.remote(step))
            self._upload()

    def stop(self, step: int, why: str) -> None:
        if self.state is not None:
            ray.get(self.state.fact.remote("stopped", {"step": step, "why": why}))
            self._close()

    def end(self) -> None:
        if self.state is not None:
            ray.get(self.state.fact.remote("done", True))
            self._close()

    def _write(self, step: int, row: dict[str, Any]) -> None:
        values = {name: row[name] for name in self.shown if name in row}
        for name, value in values.items():
            self.writer.add_scalar(f"{self.tag}/{name}", value, step)
        for log_values, _ in self.others:
            log_values(values, step)

    def _close(self) -> None:
        self.writer.close()
        for _, close in self.others:
            close()
        self._upload()

    def _upload(self) -> None:
        if self.uploads:
            self.writer.flush()
            for file in self.events.iterdir():
                self.store.copy_in(file, f"{self.folder}/{file.name}")


def _wandb(config: Any) -> Any:
    import wandb

    run = wandb.init(project="limo_ray", name=config.name, resume="allow", id=config.name)
    return (lambda values, step: run.log(values, step=step)), run.finish


def _mlflow(config: Any) -> Any:
    import mlflow

    mlflow.set_experiment("limo_ray")
    mlflow.start_run(run_name=config.name)
    return (lambda values, step: mlflow.log_metrics(values, step=step)), mlflow.end_run


TRACKERS = {"wandb": _wandb, "mlflow": _mlflow}


class TrainingView:
    """Follows the state actor on the driver: a live table on a terminal, plain lines elsewhere."""

    def __init__(self, state: Any, steps: int, shown: tuple[str, ...] = SHOWN) -> None:
        self.shown = shown
        self.state = state
        self.steps = steps
        self.begun = time.time()
        self.history: list[dict[str, Any]] = []
        self.facts: dict[str, Any] = {}
        self.resumed = 0
        self._shown = -1  # steps, in the last line
        self._view = LiveView(refresh=self.fetch, table=self._table, line=self._new_line)

    def __enter__(self) -> Self:
        self._view.start()
        heartbeat.tell("training", self.facts_for_heartbeat)
        return self

    def facts_for_heartbeat(self) -> dict[str, Any]:
        """How it stands, as plain values for `progress.json`."""
        self.fetch()
        last = self.history[-1] if self.history else {}
        return {
            "step": len(self.history), "steps": self.steps, "left": self.left(),
            "checkpoint": max(self.facts.get("checkpoints", []), default=0),
            **{name: last[name] for name in self.shown if name in last},
        }  # fmt: skip

    def __exit__(self, *exc: object) -> None:
        self._view.stop(show_last=False)
        self.fetch()

    def fetch(self) -> None:
        try:
            self.history, self.facts = ray.get(self.state.snapshot.remote(), timeout=10)
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            log.warning("the training's state actor does not answer")

    def _new_line(self) -> str:
        """The line, if there were steps since the last one."""
        if len(self.history) == self._shown:
            return ""
        self._shown = len(self.history)
        return self.line()

    def line(self) -> str:
        """One line: step, figures of the last step, time left."""
        passed = f"[{time.time() - self.begun:6.0f} s]"
        if not self.history:
            return f"{passed} workers starting"
        last = self.history[-1]
        figures = [f"step {last['step']:,} of {self.steps:,}", f"epoch {last['epoch']:.2f}"]
        figures += [f"{name.replace('_', ' ')} {figure(name, last[name])}"
                    for name in self.shown if name in last]  # fmt: skip
        return f"{passed} " + ", ".join([*figures, self.left()])

    def left(self) -> str:
        """Time left at the pace of the last steps."""
        recent = [row["seconds"] for row in self.history[-20:]]
        open_steps = self.steps - len(self.history)
        if not recent or not open_steps:
            return "ending"
        return f"about {duration(open_steps * sum(recent) / len(recent))} left"

    def _table(self) -> Table:
        done = len(self.history)
        checkpoint = max(self.facts.get("checkpoints", []), default=0)
        title = f"step {done:,} of {self.steps:,}, {self.left()}" if done else "workers starting"
        title += f"; last checkpoint at step {checkpoint:,}" if checkpoint else ""
        table = Table(title=title, title_justify="left")
        for name in ("step", *self.shown):
            table.add_column(name.replace("_", " "), justify="right")
        for row in self.history[-8:]:
            cells = [figure(name, row[name]) if name in row else "" for name in self.shown]
            table.add_row(f"{row['step']:,}", *cells)
        return table


def figure(name: str, value: float) -> str:
    """A figure as it is shown."""
    if name == "share_of_peak":
        return f"{value:.0%}"
    return f"{value:,.0f}" if name == "tokens_per_s" else f"{value:.4g}"
