"""What happened in each stage: from the samplers' totals, the decided rows and the attempt log."""

import json
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pyarrow.compute as pc

from limo_ray.attempts.log import AttemptLog
from limo_ray.attempts.parts import read_table
from limo_ray.curate import published
from limo_ray.curate.difficulty import Sampled
from limo_ray.curate.manifest import StageStatistics
from limo_ray.sampling.passes import Pass
from limo_ray.sampling.spending import logged_dollars
from limo_ray.sampling.stages import Stage
from limo_ray.storage.store import Store, scan

LENGTH_BINS = 24


def stage_statistics(run: Store, store: Store, sampled: Sampled) -> list[StageStatistics]:
    """One for each stage, in order."""
    rates: dict[str, Counter[tuple[int, int]]] = defaultdict(Counter)
    decisions: dict[str, Counter[str]] = defaultdict(Counter)
    used: Counter[str] = Counter()
    open_budget: Counter[str] = Counter()  # attempts that the rule leaves to each stage
    completing = {stage.completes: stage.name for stage in sampled.stages if stage.completes}
    budgets = {stage.name: stage.rule.budget for stage in sampled.stages}
    for batch in scan(run.within("decided"), ["source", "domain", "order", "outcomes"]):
        for row in filter(sampled.cutoffs.include, batch.to_pylist()):
            for outcome in json.loads(row["outcomes"]):
                name, made = outcome["stage"], outcome["finished"] - outcome["completed"]
                rates[name][outcome["correct"], outcome["finished"]] += 1
                decisions[name][outcome["decision"]] += 1
                used[name] += made
                open_budget[name] += made if outcome["completed"] else budgets[name]
                if outcome["completed"]:
                    rest = completing[name]
                    decisions[rest][outcome["decision"]] += 1
                    used[rest] += outcome["completed"]
                    open_budget[rest] += budgets[name] - made
    return [
        _of_stage(
            stage,
            pass_,
            sampled,
            rates[stage.name],
            decisions[stage.name],
            (used[stage.name], open_budget[stage.name]),
            store,
        )
        for pass_ in sampled.passes
        for stage in pass_.stages
    ]


def _of_stage(
    stage: Stage,
    pass_: Pass,
    sampled: Sampled,
    rates: Counter[tuple[int, int]],
    decisions: Counter[str],
    attempts: tuple[int, int],
    store: Store,
) -> StageStatistics:
    totals: dict[str, Any] = sampled.stats.get(stage.name, {})
    reused, tokens = totals.get("reused", 0), totals.get("tokens", {})
    made = totals.get("needed", 0) + totals.get("speculative", 0)
    used, full_budget = attempts
    verdicts, lengths = _from_log(AttemptLog(store, stage.fingerprint), store)
    facts = {}
    if pass_.engine.kind == "published":
        facts = published.statistics(pass_.engine.published, stage.fingerprint, store)
    return StageStatistics(
        name=stage.name,
        engine=pass_.engine_name,
        model=pass_.engine.model,
        device=pass_.engine.device,
        fingerprint=stage.fingerprint,
        rule=stage.rule,
        sampling=stage.sampling,
        problems=decisions.total(),
        decisions=dict(decisions),
        attempts={
            "sampled": made,
            "reused": reused,
            "speculative": totals.get("speculative", 0),
            "aborted": totals.get("aborted", 0),
            "used": used,
            # past a target's last keeper, or aborted: the log has what was finished
            "beyond": max(0, made + reused - used),
            "full_budget": full_budget,
        },
        tokens=tokens,
        pass_rate=[[*rate, problems] for rate, problems in sorted(rates.items())],
        seconds=round(sampled.seconds, 1),
        tokens_per_s=round(tokens.get("completion", 0) / sampled.seconds, 1),
        verdicts=verdicts,
        lengths=lengths,
        dollars=sum(logged_dollars([(pass_.engine, stage)], store).values()),
        published=facts,
    )


def _from_log(log: AttemptLog, store: Store) -> tuple[dict[str, int], dict[str, list[float]]]:
    """Verdicts and completion lengths of a whole log: it may hold earlier runs too."""
    table = read_table(store, log.folder, ["verdict", "completion_tokens"])
    counts = pc.value_counts(table["verdict"]).to_pylist()
    tokens = table["completion_tokens"].to_numpy()
    edges = np.linspace(0, max(1, tokens.max(initial=1)), LENGTH_BINS + 1)
    correct = pc.equal(table["verdict"], "correct").to_numpy()
    lengths = {
        "edges": edges.tolist(),
        "correct": np.histogram(tokens[correct], edges)[0].tolist(),
        "other": np.histogram(tokens[~correct], edges)[0].tolist(),
    }
    return {each["values"]: each["counts"] for each in counts}, lengths
