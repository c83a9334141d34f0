"""What a model replied about problems and chains, and what follows from it. Plain values."""

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from limo_ray.curate.annotation_config import AnnotationConfig
from limo_ray.curate.records import Chain, KeptProblem
from limo_ray.storage.store import Store

ANNOTATIONS = pa.schema(
    [
        ("annotation", pa.string()),
        ("problem_id", pa.string()),
        ("teacher", pa.string()),  # and index: of the chain that was asked about
        ("index", pa.int32()),
        ("item", pa.string()),  # the benchmark item that was asked about
        ("reply", pa.string()),  # null where none could be parsed
        ("verdict", pa.string()),  # correct: parsed
    ]
)


@dataclass(kw_only=True, slots=True)
class Annotations:
    """All replies, and how each annotation went."""

    rows: list[dict[str, Any]]
    """Of ANNOTATIONS."""
    statistics: list[dict[str, Any]]
    """By annotation: name, kind, engine, asked, replies (how often each came),
    unparsed (by verdict), agreement with labels."""
    dollars: dict[str, float]
    """That the attempts in the logs of paid engines cost, by fingerprint."""

    def dropped(self, config: list[AnnotationConfig]) -> dict[str, tuple[str, dict[str, Any]]]:
        """Problems that a reply drops, by id: name of the first such annotation, evidence."""
        found: dict[str, tuple[str, dict[str, Any]]] = {}
        for annotation in config:
            for row in self.rows:
                if row["annotation"] == annotation.name and row["reply"] in annotation.drop:
                    evidence = {"reply": row["reply"]} | (
                        {"item": row["item"]} if row["item"] else {}
                    )
                    found.setdefault(row["problem_id"], (annotation.name, evidence))
        return found


def read(run: Store) -> list[dict[str, Any]]:
    """The replies of a run that has ended; none where nothing was asked."""
    if not run.exists("annotations.parquet"):
        return []
    rows: list[dict[str, Any]] = run.read_table("annotations.parquet").to_pylist()
    return rows


def add_to_problems(problems: list[KeptProblem], rows: list[dict[str, Any]]) -> None:
    """Writes the replies about problems into their metadata: annotations.<name>."""
    replies: dict[str, dict[str, str]] = {}
    for row in rows:
        if row["reply"] is not None and not row["teacher"] and not row["item"]:
            replies.setdefault(row["problem_id"], {})[row["annotation"]] = row["reply"]
    for problem in problems:
        if mine := replies.get(problem.id):
            problem.metadata = json.dumps(
                json.loads(problem.metadata or "{}") | {"annotations": mine}, ensure_ascii=False
            )


def rate(chains: list[Chain], rows: list[dict[str, Any]], config: list[AnnotationConfig]) -> None:
    """Gives the chains the mean of the four criteria that a model rated, where it did."""
    names = {each.name for each in config if each.kind == "rating"}
    means = {
        (row["problem_id"], row["teacher"], row["index"]): sum(map(int, row["reply"].split())) / 4
        for row in rows
        if row["annotation"] in names and row["reply"] is not None
    }
    for chain in chains:
        chain.rating = means.get((chain.problem_id, chain.teacher, chain.index))
