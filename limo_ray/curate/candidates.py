"""What a finished curation could have chosen from: its kept problems with their scored chains.

    found = candidates(config, device)            hard but solvable problems, as the run selects
    found = candidates(config, device, wide=True) and those that the difficulty rule dropped

Reads the run's ledger and the attempt log; samples nothing. Other selections, sizes and bands of
quality or difficulty are then another last step over the same candidates (see limo_ray.study).
"""

from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from limo_ray.core.records import strong_counts
from limo_ray.curate import annotations
from limo_ray.curate.chains import candidate_chains, score_chains
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.difficulty import passes
from limo_ray.curate.outputs import example_row
from limo_ray.curate.records import Chain, KeptProblem
from limo_ray.runs.reader import KEPT_IN
from limo_ray.sampling.stop_rule import Decision
from limo_ray.storage.store import Store, scan

DROPPED = (Decision.DROP_EASY, Decision.DROP_HARD)


@dataclass(kw_only=True, slots=True)
class Candidates:
    """Problems by id, the chains that pass the gate, and which of the problems the rule kept."""

    problems: dict[str, KeptProblem]
    chains: list[Chain]
    kept: set[str]
    system: str

    def rows(self, chains: list[Chain]) -> list[dict[str, Any]]:
        """Rows of examples.parquet for chosen chains."""
        return [example_row(c, self.problems[c.problem_id], self.system) for c in chains]


def candidates(config: CurateConfig, device: str, *, wide: bool = False) -> Candidates:
    """The candidates of the run `config.name`, which must have ended.

    Args:
        wide: also problems that the strong stage dropped, where its log or a teacher's holds a
            chain; scores are then relative to all of these chains.
    """
    store = Store(config.store)
    run = store.within(f"runs/{config.name}")
    kept: set[str] = set()
    dropped: set[str] = set()
    for batch in scan(run.within("ledger"), ["problem_id", "stage", "reason"]):
        for row in batch.to_pylist():
            if row["stage"] in KEPT_IN:
                kept.add(row["problem_id"])
            elif row["stage"] == "strong" and row["reason"] in DROPPED:
                dropped.add(row["problem_id"])
    problems = _problems(run, kept | dropped if wide else kept)
    stages = [stage for pass_ in passes(config, device) for stage in pass_.stages]
    replies = annotations.read(run)
    annotations.add_to_problems(problems, replies)
    chains = candidate_chains(problems, stages, store, config)
    annotations.rate(chains, replies, config.annotate)
    return Candidates(
        problems={problem.id: problem for problem in problems},
        chains=score_chains(problems, chains, config),
        kept=kept, system=config.system,
    )  # fmt: skip


def _problems(run: Store, ids: set[str]) -> list[KeptProblem]:
    """Problems with their outcomes, in the seeded order; text of dropped ones is in the pool."""
    wanted = pa.array(sorted(ids), pa.string())
    outcomes: dict[str, str] = {}
    for batch in scan(run.within("decided"), ["id", "outcomes"]):
        for row in batch.filter(pc.is_in(batch["id"], wanted)).to_pylist():
            outcomes[row["id"]] = row["outcomes"]
    names = [field.name for field in fields(KeptProblem) if field.name != "outcomes"]
    found = []
    for batch in scan(run.within("pool"), [*names, "reason"]):
        live = batch.filter(pc.and_(pc.is_null(batch["reason"]), pc.is_in(batch["id"], wanted)))
        found += [KeptProblem(**row, outcomes=outcomes[row["id"]])
                  for row in live.select(names).to_pylist()]  # fmt: skip
    return sorted(found, key=lambda problem: problem.order)


def pass_rate(problem: KeptProblem) -> float | None:
    """Correct over finished attempts of the strong stage, which the stop rule may end early."""
    correct, finished = strong_counts(problem.outcomes) or (0, 0)
    return correct / finished if finished else None
