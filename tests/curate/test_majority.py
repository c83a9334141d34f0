"""Problems without an answer: the majority of the strong attempts becomes their gold answer."""

import json
from pathlib import Path
from random import Random

import pyarrow.parquet as pq
import pytest

from limo_ray.attempts.log import AttemptLog, LogWriter
from limo_ray.core import config
from limo_ray.core.records import Attempt, Verdict, majority_gold, problem_id
from limo_ray.curate.config import CurateConfig, MajorityConfig
from limo_ray.curate.majority import majority
from limo_ray.curate.pipeline import curate
from limo_ray.problems.mappings import Mapping
from limo_ray.problems.problem_rows import pool_row
from limo_ray.problems.sources import SourceConfig
from limo_ray.storage.store import Store
from limo_ray.verify import verify

ROOT = Path(__file__).parents[2]
BUDGET = 8


@pytest.mark.parametrize(
    ("answers", "attempts", "expected"),
    [(["1/2", "0.5", "3"], 4, None), (["1/2", "0.5", "0.5", "3"], 6, "0.5"),
     (["1/2", "0.5", "0.5", "3"], 7, None), ([], 4, None)],
)  # fmt: skip
def test_enough_of_the_attempts_must_agree(answers: list[str], attempts: int, expected) -> None:
    found, votes = majority(answers, attempts, MajorityConfig(share=0.5, count=3))
    assert found == expected
    assert sum(votes.values()) == len(answers)


def test_a_row_without_an_answer_is_a_problem_only_where_the_source_says_so() -> None:
    mapping = Mapping(question="q", answer="a", unanswered=True)
    where = {"source": "s", "file": "f", "line": 1}
    for record in ({"q": "How many?"}, {"q": "How many?", "a": None}, {"q": "How many?", "a": " "}):
        row = pool_row(record, mapping, **where)
        assert (row["answer"], row["reason"]) == ("", None)
        assert pool_row(record, Mapping(question="q", answer="a"), **where)["reason"] == "invalid"
    assert pool_row({"q": "How many?", "a": 5}, mapping, **where)["answer"] == "5"
    assert pool_row({"q": None, "a": 5}, mapping, **where)["reason"] == "invalid"
    SourceConfig(path="a.jsonl", question="q", unanswered=True).check()
    with pytest.raises(ValueError, match="unanswered: not for domain 'choice'"):
        SourceConfig(path="a", question="q", answer="a", domain="choice", unanswered=True).check()
    assert verify("", r"\boxed{5}") is Verdict.UNPARSED


def test_majorities_are_right_where_votes_allow_it() -> None:
    """The measure: at least 95 % of the gold answers that are given are the true ones."""
    rng, given, right, should = Random(5), 0, 0, 0
    for number in range(2_000):
        accuracy = rng.choice((0.3, 0.6, 0.9))
        wrong = [number + offset for offset in (-10, -2, -1, 1, 2, 10)]
        answers = [str(number if rng.random() < accuracy else rng.choice(wrong)) for _ in range(16)]
        found, _ = majority(answers, 16, MajorityConfig())
        given += found is not None
        right += found == str(number)
        should += answers.count(str(number)) >= 8
    print(f"majority gold: precision {right / given:.3f}, recall {right / should:.3f}")
    assert right / given >= 0.95 and right / should >= 0.95


def write(folder: Path) -> tuple[Path, Path, dict[str, str]]:
    """A pool whose odd problems have no answer, a log of attempts, and the votes' winners."""
    rng, rows, winners = Random(1), [], {}
    writer = LogWriter(AttemptLog(Store(str(folder)), "made"))
    for n in range(60):
        question = f"What is {n} + {n}?"
        rows.append({"question": question} | ({} if n % 2 else {"answer": 2 * n}))
        rate = rng.choice((0.2, 0.5, 0.9))
        given = [2 * n if rng.random() < rate else 2 * n + rng.randint(1, 4) for _ in range(BUDGET)]
        most = max(set(given), key=given.count)
        if n % 2 and given.count(most) >= 4:
            winners[problem_id(question)] = str(most)
        for index, answer in enumerate(given):
            writer.append(
                Attempt(
                    problem_id=problem_id(question), index=index,
                    completion=f"Let me verify this. The answer is \\boxed{{{answer}}}.",
                    finish_reason="stop", prompt_tokens=1, completion_tokens=5,
                    verdict=Verdict.ERROR, extracted=None, judge="0" * 16,
                )
            )  # fmt: skip
    writer.flush()
    pool = folder / "pool.jsonl"
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return pool, folder / "attempts/made", winners


def test_majority_answers_are_marked_everywhere_and_nothing_is_sampled_twice(
    local_ray, tmp_path: Path
) -> None:
    pool, log, winners = write(tmp_path)
    engine = {"kind": "replay", "model": "replayed", "device": "cpu", "num_cpus": 0.4,
              "max_num_seqs": 16, "script": {"log": str(log)}}  # fmt: skip
    source = {"path": str(pool), "question": "question", "answer": "answer", "unanswered": True}
    store = tmp_path / "store"
    arguments = [
        str(ROOT / "conf/curate/laptop.yaml"), f"sources={json.dumps([source])}",
        f"store={store}", f"engines={{replayed: {json.dumps(engine)}}}", "decontaminate.files=[]",
        f"difficulty={{weak: null, stop_after_kept: 0, majority: {{share: 0.5, count: 4}}, strong:"
        f" {{engine: replayed, rule: {{budget: {BUDGET}, keep_min: 4, keep_max: 8}}}}}}",
        "chains={teachers: [], reuse_strong: true}", "selection.k=100", "sampler.flush_s=0.2",
    ]  # fmt: skip
    curate(config.load(CurateConfig, arguments), "cpu")
    run = store / "runs/laptop"
    shards = pq.read_table(run / "pool").to_pylist()
    voted = {row["id"]: row["answer"] for row in shards if majority_gold(row["metadata"])}
    assert winners and voted == winners
    dropped = {row["id"] for row in shards if row["reason"] == "no_majority"}
    assert len(dropped) + len(voted) == 30

    ledger = {row["problem_id"]: row for row in pq.read_table(run / "ledger").to_pylist()}
    assert len(ledger) == 60
    for id_, answer in voted.items():
        told = json.loads(ledger[id_]["evidence"])["majority_gold"]
        assert told["answer"] == answer and 4 <= told["votes"] <= told["attempts"] == BUDGET
    for id_ in dropped:
        assert ledger[id_]["stage"] == "majority" and json.loads(ledger[id_]["evidence"])["votes"]
    examples = pq.read_table(run / "examples.parquet").to_pylist()
    golds = {row["problem_id"]: row["gold"] for row in examples}
    assert {id_ for id_, gold in golds.items() if gold.startswith("majority ")} == set(voted)
    assert {gold for id_, gold in golds.items() if id_ not in voted} == {"source"}
    assert all(rf"\boxed{{{row['answer']}}}" in row["solution"] for row in examples)
    manifest = json.loads((run / "manifest.json").read_text())
    count = len(voted)
    assert manifest["majority"] == {"problems": count, "kept": count, "selected": count}
    for page in ("README.md", "report.html"):
        assert f"{count} problems came without an answer" in (run / page).read_text()
    assert "gold answer by majority" in (run / "report.html").read_text()
    [strong] = manifest["sampling"]
    attempts = AttemptLog(Store(str(store)), strong["fingerprint"]).attempts(list(ledger))
    assert len({(a.problem_id, a.index) for a in attempts}) <= 60 * BUDGET
    again = [*arguments, "name=again", "difficulty.majority.share=0.6"]
    curate(config.load(CurateConfig, again), "cpu")
    manifest = json.loads((store / "runs/again/manifest.json").read_text())
    assert manifest["sampling"][0]["attempts"]["sampled"] == 0
