"""Steps that ask a model about kept problems, their chains, and questions that ask for a proof.

    <store>/attempts/<fingerprint>/    a reply is an attempt at a problem of the domain "reply"
    <run>/questions/                   what was asked
    <run>/annotations.parquet          rows of ANNOTATIONS
    <run>/proofs.jsonl                 proof questions that have a final answer, as problems

Whatever samples attempts samples replies: engines, sampler, stop rule, log. A question that was
asked once under the same sampling is not asked again, in whatever run.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from limo_ray import verify
from limo_ray.core.records import Attempt, Verdict
from limo_ray.curate.agreement import Label, agreement, read_labels
from limo_ray.curate.annotation_config import AnnotationConfig
from limo_ray.curate.annotation_prompts import fields, prompt
from limo_ray.curate.annotations import ANNOTATIONS, Annotations
from limo_ray.curate.ask import Question, ask
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.difficulty import Sampled
from limo_ray.curate.read_step import items_to_keep_out
from limo_ray.curate.records import Chain, KeptProblem
from limo_ray.problems.nearest import nearest
from limo_ray.storage.store import Store, scan
from limo_ray.verify.reply import parse


def annotate(
    config: CurateConfig, problems: list[KeptProblem], chains: list[Chain], sampled: Sampled,
    run: Store, store: Store, device: str,
) -> Annotations:  # fmt: skip
    """Asks all that `config.annotate` names, and writes the replies.

    Args:
        problems: the kept ones.
        chains: their candidate chains.
        sampled: of the run.

    Raises:
        ValueError: a file of labels that cannot be read, a benchmark that cannot be loaded.
        SpendCapReached: the job's attempts and replies cost as much as they may.
        RayError: with the EngineError of an engine that does not start or keeps dying.
    """
    if not config.annotate:
        run.delete("annotations.parquet")  # of an earlier run of this name
        return Annotations(rows=[], statistics=[], dollars={})
    labels = {each.name: read_labels(each) for each in config.annotate}
    questions = [
        question
        for each in config.annotate
        for question in _questions(each, config, problems, chains, run, labels[each.name])
    ]
    replies, dollars = ask(config, questions, sampled, run, store, device)
    rows, statistics = [], []
    for each in config.annotate:
        mine = [question for question in questions if question.annotation == each.name]
        asked = [question for question in mine if "label" not in question.about]
        found = [_row(question, replies) for question in asked]
        rows += found
        labelled = [question for question in mine if "label" in question.about]
        known = [(each.about["label"], _row(each, replies)["reply"]) for each in labelled]
        counts = Counter(row["reply"] for row in found if row["reply"] is not None)
        statistics.append(
            {
                "name": each.name, "kind": each.kind, "engine": each.engine,
                "asked": len(found), "replies": dict(counts.most_common(100)),
                "unparsed": dict(Counter(r["verdict"] for r in found if r["reply"] is None)),
                "agreement": asdict(agreement(each.kind, known)) if known else None,
            }
        )  # fmt: skip
        if each.kind == "final_answer":
            _write_proofs(run, found)
    run.write_table("annotations.parquet", pa.Table.from_pylist(rows, schema=ANNOTATIONS))
    return Annotations(rows=rows, statistics=statistics, dollars=dollars)


def _questions(
    annotation: AnnotationConfig, config: CurateConfig, problems: list[KeptProblem],
    chains: list[Chain], run: Store, labels: list[Label],
) -> Iterator[Question]:  # fmt: skip
    """What one annotation asks, labelled rows last."""
    spec, template = json.dumps(annotation.spec()), annotation.text()

    def question(values: dict[str, str], **about: Any) -> Question:
        text = prompt(template, values, annotation.replies)
        return Question(annotation=annotation.name, text=text, spec=spec, about=about)

    texts = {
        p.id: {"question": p.question, "answer": verify.show(p.answer, p.domain)} for p in problems
    }
    if annotation.kind == "final_answer":
        for proof in _proofs(run, annotation.limit):
            yield question(proof, problem_id=proof["id"])
    elif annotation.of_chains:
        for chain in chains:
            values = texts[chain.problem_id] | {"solution": chain.solution}
            place = {"teacher": chain.teacher, "index": chain.index}
            yield question(values, problem_id=chain.problem_id, **place)
    elif "item" in fields(template):
        items, _ = items_to_keep_out(config)
        near = nearest(
            [problem.question for problem in problems], [item.question for item in items],
            annotation.nearest, annotation.similarity,
        )  # fmt: skip
        for problem, found in zip(problems, near, strict=True):
            for position, _ in found:
                item = items[position]
                values = texts[problem.id] | {"item": item.question}
                yield question(
                    values, problem_id=problem.id, item=f"{item.benchmark}:{item.number}"
                )
    else:
        for problem in problems:
            yield question(texts[problem.id], problem_id=problem.id)
    for label in labels:
        yield question(label.values, label=label.reply)


def _proofs(run: Store, limit: int) -> list[dict[str, str]]:
    """The first questions in the seeded order that the pool dropped as asking for a proof."""
    found: list[dict[str, Any]] = []
    for batch in scan(run.within("pool"), ["id", "question", "answer", "order", "reason"]):
        found += batch.filter(pc.equal(batch["reason"], "proof")).to_pylist()
        found = sorted(found, key=lambda row: row["order"])[:limit]
    return [{name: row[name] or "" for name in ("id", "question", "answer")} for row in found]


def _row(question: Question, replies: dict[tuple[str, str], Attempt]) -> dict[str, Any]:
    """Of ANNOTATIONS."""
    attempt = replies.get((question.annotation, question.id))
    parsed = attempt is not None and attempt.verdict == Verdict.CORRECT
    reply = parse(question.spec, attempt.extracted or "") if attempt and parsed else None
    return {
        **dict.fromkeys(ANNOTATIONS.names), **question.about, "annotation": question.annotation,
        "reply": reply, "verdict": str(attempt.verdict) if attempt else "error",
    }  # fmt: skip


def _write_proofs(run: Store, rows: list[dict[str, Any]]) -> None:
    """The proof questions that have a final answer, as problems for a source of another run."""
    lines = []
    for row in rows:
        if row["reply"] not in (None, "none"):
            task, _, answer = row["reply"].partition(" => ")
            problem = {"question": task, "answer": answer, "proof_id": row["problem_id"]}
            lines.append(json.dumps(problem, ensure_ascii=False) + "\n")
    run.write_text("proofs.jsonl", "".join(lines))
