"""Suspicious gold answers: no strong attempt is right, and at least half agree on another answer.

Answers are grouped by the verifier's own equality. Only answers of the domain math are compared.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from limo_ray.attempts.log import AttemptLog
from limo_ray.attempts.parts import read_all
from limo_ray.curate.difficulty import Sampled
from limo_ray.problems.answer_check import Equal, same_gold_answer
from limo_ray.sampling.stages import Stage
from limo_ray.storage.store import Store, scan

FEWEST_VOTES = 2  # one attempt against the gold answer is no agreement


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspicion:
    """A problem whose gold answer the attempts contradict."""

    problem_id: str
    source: str
    file: str
    line: int
    attempts: int
    votes: dict[str, int]
    """Attempts by answer, equal answers together, most first."""


def find(run: Store, sampled: Sampled, store: Store) -> list[Suspicion]:
    """The suspicious ones among the problems that the strong stage decided, in their order.

    Args:
        run: the run directory, with the decided problems.
        sampled: of the run.
        store: holds the attempt logs.
    """
    strong = [stage for stage in sampled.stages if stage.decides == "strong"]
    unsolved: dict[str, dict[str, Any]] = {}
    for batch in scan(
        run.within("decided"), ["id", "source", "file", "line", "domain", "order", "outcomes"]
    ):
        for row in filter(sampled.cutoffs.include, batch.to_pylist()):
            for outcome in json.loads(row["outcomes"]):
                decided_by_it = outcome["stage"] == "strong" and row["domain"] == "math"
                if decided_by_it and not outcome["correct"]:
                    unsolved[row["id"]] = row | {"attempts": outcome["finished"]}
    answers = strong_answers(strong, list(unsolved), store)
    found = []
    for id_, row in sorted(unsolved.items(), key=lambda item: item[1]["order"]):
        votes = count_votes(answers[id_], same_gold_answer)
        if contradict(votes, row["attempts"]):
            facts = {name: row[name] for name in ("source", "file", "line", "attempts")}
            found.append(Suspicion(problem_id=id_, votes=votes, **facts))
    return found


def strong_answers(stages: list[Stage], ids: list[str], store: Store) -> dict[str, list[str]]:
    """What the logged attempts of the strong stages at these problems answered."""
    answers: dict[str, list[str]] = defaultdict(list)
    for stage in stages:
        found = _answers(AttemptLog(store, stage.fingerprint), ids, stage.rule.budget)
        for id_, given in found.items():
            answers[id_] += given
    return answers


def _answers(log: AttemptLog, ids: list[str], budget: int) -> dict[str, list[str]]:
    """What the logged attempts at these problems answered, without their text."""
    columns = ["problem_id", "index", "extracted"]
    wanted = pa.array(ids, pa.string())

    def rows_of_problems(part: pq.ParquetFile) -> pa.Table:
        table = part.read(columns, use_threads=False)
        return table.filter(pc.is_in(table["problem_id"], wanted))

    last: dict[tuple[str, int], str | None] = {}  # one verified again has several rows
    if ids:
        parts, _ = read_all(log.store, log.folder, rows_of_problems)
        for table in parts.values():
            for row in table.to_pylist():
                last[row["problem_id"], row["index"]] = row["extracted"]
    found: dict[str, list[str]] = defaultdict(list)
    for (id_, index), answer in sorted(last.items()):
        if answer and index < budget:
            found[id_].append(answer)
    return found


def count_votes(answers: Iterable[str], equal: Equal) -> dict[str, int]:
    """How many of the answers are equal, by the answer that came up most; most votes first."""
    votes: dict[str, int] = {}
    for answer, count in Counter(answers).most_common():
        same = next((known for known in votes if equal(known, answer, "math")), answer)
        votes[same] = votes.get(same, 0) + count
    return dict(sorted(votes.items(), key=lambda item: -item[1]))


def contradict(votes: dict[str, int], attempts: int) -> bool:
    """Whether votes against a gold answer that no attempt gave make it suspicious."""
    most = max(votes.values(), default=0)
    return most >= FEWEST_VOTES and 2 * most >= attempts
