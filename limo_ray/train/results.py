"""What a training leaves beside the weights: metrics, model card, report with the loss plot."""

import json
import math
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from limo_ray.core import config as configs
from limo_ray.core.text import duration, number
from limo_ray.core.uris import redact, split
from limo_ray.report.line_chart import Line, line_chart
from limo_ray.report.templates import environment, page
from limo_ray.storage import model_files
from limo_ray.storage.store import Store
from limo_ray.train.config import TrainConfig
from limo_ray.train.table import TrainingData

PACKAGES = ("deepspeed", "ray", "torch", "transformers", "peft", "accelerate", "safetensors")


def metrics(
    history: list[dict[str, Any]], facts: dict[str, Any], data: TrainingData, seconds: float
) -> dict[str, Any]:
    """The figures of a finished training."""
    held = [row["held_out_loss"] for row in history if "held_out_loss" in row]
    spent = sum(row["seconds"] for row in history)
    tokens = sum(row["tokens"] for row in history)
    return {
        "steps": len(history),
        "examples": len(data.train),
        "first_loss": history[0]["loss"],
        "loss": history[-1]["loss"],
        "held_out": len(data.held_out),
        "held_out_before": facts.get("held_out_before"),
        "held_out_loss": held[-1] if held else None,
        "tokens": tokens,
        "learned_tokens": sum(row.get("learned_tokens", 0) for row in history),
        "tokens_per_s": tokens / spent,
        "share_of_peak": sum(row["share_of_peak"] * row["seconds"] for row in history) / spent,
        "seconds": round(seconds, 1),
    }


def publish(
    store: Store, run: Store, config: TrainConfig, manifest: dict[str, Any],
    history: list[dict[str, Any]],
) -> None:  # fmt: skip
    """Writes card, metrics and report, the manifest last."""
    lines = [json.dumps(row) + "\n" for row in history]
    run.write_text("metrics.jsonl", "".join(lines))
    store.write_text(f"models/{config.name}/README.md", card(config, manifest))
    if config.lora:
        store.write_text(f"adapters/{config.name}/README.md", card(config, manifest, adapter=True))
    run.write_text("report.html", report(manifest, history))
    run.write_json("manifest.json", manifest)


def card(config: TrainConfig, manifest: dict[str, Any], adapter: bool = False) -> str:
    """The card of the model, or of its adapter: data, recipe, metrics."""
    env = environment(autoescape=False)
    base = "" if model_files.is_local(config.model) else config.model
    if config.model == model_files.PACKAGED:
        base = "HuggingFaceTB/SmolLM2-135M-Instruct"
    data = config.data if config.data.count("/") == 1 and "." not in config.data else ""
    front: dict[str, Any] = {"license": config.licence, "library_name": "transformers",
             "pipeline_tag": "text-generation", "tags": ["reasoning", "limo", "sft"]}  # fmt: skip
    if adapter:
        front |= {"library_name": "peft", "tags": [*front["tags"], "lora"]}
    front |= {"base_model": base} if base else {}
    front |= {"datasets": [data]} if data else {}
    return env.get_template("model_card.md.j2").render(
        m=manifest, yaml=configs.as_yaml(config), adapter=adapter,
        config=replace(
            config, model=redact(split(config.model)[0]), data=redact(split(config.data)[0])
        ),
        front="\n".join(f"{key}: {json.dumps(value)}" for key, value in front.items()),
    )  # fmt: skip


def report(manifest: dict[str, Any], history: list[dict[str, Any]]) -> str:
    """One page: figures, loss, learning rate, gradient norm, config; opens offline."""
    found = manifest["metrics"]
    charts = [
        line_chart("Loss", _series(history, "loss", "held_out_loss", found)),
        line_chart("Score", [_scores(found.get("scores", []))], top=1.0),
        line_chart("Gradient norm", [_points(history, "grad_norm", "c0")]),
        line_chart("Learning rate", [_points(history, "lr", "c0")]),
        line_chart("Tokens per second", [_points(history, "tokens_per_s", "c0")]),
    ]
    head = [
        ("steps", number(found["steps"])),
        ("loss", f"{found['first_loss']:.3f} to {found['loss']:.3f}"),
        ("tokens per second", number(round(found["tokens_per_s"]))),
        ("share of measured matmul peak", f"{found['share_of_peak']:.0%}"),
        ("time", duration(manifest["seconds"])),
    ]
    if found["held_out_loss"] is not None and found["held_out_before"] is not None:
        change = f"{found['held_out_before']:.3f} to {found['held_out_loss']:.3f}"
        head.insert(2, (f"held-out loss ({found['held_out']} examples)", change))
    rows = [*head, *manifest["data"]]
    table = Markup("").join(
        Markup("<tr><th>{}</th><td>{}</td></tr>").format(name, value) for name, value in rows
    )
    return page(
        "training.html.j2", manifest["versions"].get("limo_ray"), m=manifest, table=table,
        charts=Markup("").join(charts), config=json.dumps(manifest["config"], indent=2),
    )  # fmt: skip


def _scores(scores: list[dict[str, Any]]) -> Line:
    points = [(score["step"], score["value"]) for score in scores]
    marks = [(score["step"], score["low"], score["value"], score["high"]) for score in scores]
    return Line(name="pass@1", css="c0", points=points, marks=marks)


def _points(history: list[dict[str, Any]], name: str, css: str) -> Line:
    points = [(row["step"], row[name]) for row in history if math.isfinite(row.get(name, math.nan))]
    return Line(name=name.replace("_", " "), css=css, points=points)


def _series(
    history: list[dict[str, Any]], loss: str, held: str, found: dict[str, Any]
) -> list[Line]:
    lines = [_points(history, loss, "c0")]
    if found["held_out_loss"] is not None:
        line = _points(history, held, "c1")
        if found["held_out_before"] is not None:
            line.points.insert(0, (0, found["held_out_before"]))
        lines.append(line)
    return lines
