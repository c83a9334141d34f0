"""Curations out of published attempts: what is collected, and that the set is an engine's."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from limo_ray.attempts.log import AttemptLog, LogWriter
from limo_ray.core import config
from limo_ray.core.records import Attempt, Verdict, problem_id
from limo_ray.curate import published
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.outline import outline
from limo_ray.curate.pipeline import curate
from limo_ray.engines.published import GROUP_ROWS, PublishedIndex
from limo_ray.engines.published_config import READY, PublishedColumns, PublishedConfig
from limo_ray.problems.sources import work_items
from limo_ray.storage.store import Store

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "conf/curate/published_sample.parquet"
PRESET = str(ROOT / "conf/curate/published_sample.yaml")


def problems() -> list[dict]:
    return pq.read_table(SAMPLE).to_pylist()


def preset(store: Path, *more: str) -> CurateConfig:
    here = [f"sources=[{{path: {SAMPLE}, mapping: openr1_math}}]", f"store={store}"]
    data = [f"engines.sample.published.path={SAMPLE}", "sampler.flush_s=0.2"]
    return config.load(CurateConfig, [PRESET, *here, *data, *more])


def ledger(store: Path, name: str = "published_sample") -> dict[str, dict]:
    rows = pq.read_table(store / f"runs/{name}/ledger").to_pylist()
    return {row["problem_id"]: row for row in rows}


@pytest.fixture(scope="module")
def sample(local_ray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("sample")
    started = time.time()
    curate(preset(store), "cpu")
    print(f"the packaged sample took {time.time() - started:.1f} s")
    return store


def test_the_sample_gives_examples_and_what_it_leaves_undecided(sample: Path) -> None:
    manifest = json.loads((sample / "runs/published_sample/manifest.json").read_text())
    assert manifest["counts"]["input"] == len(problems())
    assert manifest["counts"]["selected"] >= 50
    rows = ledger(sample)
    attempts = {problem_id(row["problem"]): len(row["generations"]) for row in problems()}
    few = {id_ for id_, row in rows.items() if row["reason"] == "too_few_attempts"}
    assert few
    for id_ in few:
        evidence = json.loads(rows[id_]["evidence"])
        assert evidence["finished"] == attempts[id_] < evidence["budget"] == 4
    assert manifest["sampling"][0]["decisions"]["undecided"] == len(few)
    assert sum(manifest["sampling"][0]["decisions"].values()) == manifest["counts"]["pool"]


def test_labels_of_the_data_set_are_compared_with_our_verdicts(sample: Path) -> None:
    run = sample / "runs/published_sample"
    [strong, teacher] = json.loads((run / "manifest.json").read_text())["sampling"]
    facts = strong["published"]
    assert facts == teacher["published"]
    live = ledger(sample)
    assert (facts["rows"], facts["unusable"]) == (len(problems()), 0)
    assert facts["attempts"] == sum(len(row["generations"]) for row in problems())
    expected = dict.fromkeys(facts["labels"], 0)
    log = AttemptLog(Store(str(sample)), strong["fingerprint"])
    logged = {(a.problem_id, a.index) for a in log.attempts(list(live))}
    for row in problems():
        given = zip(row["generations"], row["correctness_math_verify"], strict=True)
        for index, (text, label) in enumerate(given):
            if (problem_id(row["problem"]), index) in logged:
                right = text.endswith(rf"\boxed{{{row['answer']}}}.")
                said, verdict = (("wrong", "correct")[each] for each in (label, right))
                expected[f"{said}_{verdict}"] += 1
    assert facts["labels"] == expected
    assert expected["wrong_correct"] and expected["correct_wrong"]
    page = (run / "report.html").read_text()
    assert "labels unlike our verdicts" in page and "too few attempts" in page


def test_the_set_is_that_of_an_engine_that_makes_these_attempts(
    sample: Path, local_ray, tmp_path: Path
) -> None:
    writer = LogWriter(AttemptLog(Store(str(tmp_path)), "made"))
    for row in problems():
        for index, text in enumerate(row["generations"]):
            writer.append(
                Attempt(
                    problem_id=problem_id(row["problem"]), index=index, completion=text,
                    finish_reason="stop", prompt_tokens=1, completion_tokens=1,
                    verdict=Verdict.ERROR, extracted=None, judge="0" * 16,
                )
            )  # fmt: skip
    writer.flush()
    replay = f"engines.sample.script={{log: {tmp_path}/attempts/made}}"
    curate(preset(tmp_path / "store", "engines.sample.kind=replay", replay), "cpu")
    reasons = [
        {id_: (row["stage"], row["reason"]) for id_, row in ledger(store).items()}
        for store in (sample, tmp_path / "store")
    ]
    assert reasons[0] == reasons[1]


def test_a_second_run_verifies_nothing_again_and_collects_nothing_again(
    sample: Path, local_ray
) -> None:
    def files() -> dict[Path, int]:
        kept = [sample / "attempts", sample / "published"]
        return {f: f.stat().st_mtime_ns for each in kept for f in each.rglob("*.parquet")}

    before = files()
    curate(preset(sample, "name=again", "difficulty.strong.rule.keep_max=1"), "cpu")
    manifest = json.loads((sample / "runs/again/manifest.json").read_text())
    assert all(stage["attempts"]["sampled"] == 0 for stage in manifest["sampling"])
    assert {file for file in before if "published" in str(file)} <= files().keys()
    assert all(files().get(file, at) == at for file, at in before.items())


def test_a_gold_answer_that_the_attempts_contradict_is_listed_or_dropped(
    sample: Path, local_ray
) -> None:
    expected = {}
    for row in problems():
        answers = [text.rpartition("{")[2][:-2] for text in row["generations"]]
        votes = {answer: answers.count(answer) for answer in answers}
        most = max(votes.values())
        if row["answer"] not in votes and most >= 2 and 2 * most >= len(answers):
            expected[problem_id(row["problem"])] = votes
    manifest = json.loads((sample / "runs/published_sample/manifest.json").read_text())
    assert expected
    assert {each["problem_id"]: each["votes"] for each in manifest["suspicious"]} == expected
    rows = ledger(sample)
    assert all(json.loads(rows[id_]["evidence"])["votes"] == expected[id_] for id_ in expected)
    assert "Suspicious gold answers" in (sample / "runs/published_sample/report.html").read_text()

    unsolved = ("difficulty.strong.rule.keep_min=0", "chains.only_correct=false")
    curate(preset(sample, "name=dropped", "difficulty.suspicious=drop", *unsolved), "cpu")
    dropped = {id_: row for id_, row in ledger(sample, "dropped").items() if id_ in expected}
    few = {row["reason"] for row in dropped.values()}
    assert few <= {"suspicious_gold", "too_few_attempts"} and "suspicious_gold" in few


def test_the_dry_run_says_where_attempts_are_from(tmp_path: Path) -> None:
    told = outline(preset(tmp_path), "gpu")
    assert f"engine sample: attempts of scripted, published in {SAMPLE}" in told
    assert "strong: 4 attempts, keep 1 to 2 correct, as far as there are some" in told


# What is collected, without Ray.


def pool_of(folder: Path, questions: list[str], dropped: tuple[str, ...] = ()) -> Store:
    rows = [
        {"id": problem_id(question), "reason": "duplicate" if question in dropped else None}
        for question in questions
    ]
    schema = pa.schema([("id", pa.string()), ("reason", pa.string())])
    store = Store(str(folder))
    store.write_table("a.parquet", pa.Table.from_pylist(rows, schema=schema))
    return store


def collected(tmp_path: Path, rows: list[dict], **columns: object) -> tuple[list[dict], dict]:
    """The rows of the folder that is collected of a JSONL file, and its counts."""
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pool = pool_of(tmp_path / "pool", ["What is 1 + 1?", "What is 2 + 2?"], ("What is 2 + 2?",))
    named = PublishedConfig(path=str(file), **{"question": "q", "completions": ["c"]} | columns)
    source = published._source(published._files("e", named)[1], named.columns())
    items = work_items([source])
    out = Store(str(tmp_path / "out"))
    key = str(tmp_path)
    published._collect_part("part-00000.parquet", items, source, named.columns(), pool, key, out)
    return out.read_table("part-00000.parquet").to_pylist(), published.counted(out)


def test_rows_belong_to_live_problems_by_their_normalised_question(tmp_path: Path) -> None:
    rows = [
        {"q": " what  is 1 + 1? ", "c": "two"},
        {"q": "What is 2 + 2?", "c": "the pool dropped it"},
        {"q": "What is 3 + 3?", "c": "the pool lacks it"},
        {"q": "WHAT IS 1 + 1?", "c": ["2", None, " ", "3"]},
        {"q": "What is 1 + 1?"},
        {"q": None, "c": "nothing"},
    ]
    found, counts = collected(tmp_path, rows)
    assert [(row["completion"], row["line"]) for row in found] == [("two", 1), ("2", 4), ("3", 4)]
    assert {row["problem_id"] for row in found} == {problem_id("What is 1 + 1?")}
    assert (counts["rows"], counts["matched"], counts["unusable"]) == (6, 2, 2)
    assert counts["example"].endswith("data.jsonl:5: completions: no column 'c'")


def test_columns_lists_templates_conditions_and_labels(tmp_path: Path) -> None:
    question = "What is 1 + 1?"
    rows = [
        {"q": question, "a": "x", "b": ["y", "z"], "ok": "Yes", "oks": [1, False], "use": 1},
        {"q": question, "a": "u", "b": ["v", "w"], "ok": None, "oks": [True], "use": 1},
        {"q": question, "a": "no", "b": [], "ok": None, "oks": [], "use": 0},
        {"q": question, "a": "no", "b": [], "ok": "perhaps", "oks": [], "use": 1},
    ]
    found, counts = collected(
        tmp_path, rows, completions=["<think>{a}</think>", "b"], correct=["ok", "oks"],
        where=["use == 1"],
    )  # fmt: skip
    assert [(row["completion"], row["label"]) for row in found] == [
        ("<think>x</think>", True), ("y", True), ("z", False),
        ("<think>u</think>", None), ("v", None), ("w", None),
    ]  # fmt: skip
    assert counts["unusable"] == 1
    assert "correct: neither true nor false" in counts["example"]


def test_parts_have_small_groups_and_the_order_of_the_data(tmp_path: Path) -> None:
    rows = [{"q": "What is 1 + 1?", "c": str(number)} for number in range(3 * GROUP_ROWS + 1)]
    found, _ = collected(tmp_path, rows)
    assert [row["completion"] for row in found] == [row["c"] for row in rows]
    metadata = pq.read_metadata(tmp_path / "out/part-00000.parquet")
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    assert sizes == [GROUP_ROWS] * 3 + [1]
    assert len(PublishedIndex(Store(str(tmp_path / "out")))) == len(rows)


def test_the_log_is_named_by_the_data_and_its_columns(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text('{"q": "What is 1 + 1?", "c": "2"}\n')

    def of(**changes: object) -> str:
        named = {"path": str(file), "question": "q", "completions": ["c"]} | changes
        return published.attempts_fingerprint("e", PublishedConfig(**named))

    names = {of(), of(question="p"), of(completions=["c", "d"]), of(where=["c != 3"])}
    assert len(names) == 4
    assert of(folder="elsewhere") == of() in names
    os.utime(file, (1, 1))
    assert of() not in names
    with pytest.raises(ValueError, match=r"^engines\.e\.published\.path: no file matches"):
        of(path=str(tmp_path / "no.jsonl"))


@pytest.mark.parametrize("name", READY)
def test_ready_columns_make_attempts_of_a_row_of_their_data_set(name: str) -> None:
    columns: PublishedColumns = READY[name]
    texts = ["generations", "generated_solution", "deepseek_reasoning", "deepseek_solution",
             "solution", "deepseek_thinking_trajectory", "deepseek_attempt",
             "r1_solution_1", "r1_solution_2", "r1_solution_3"]  # fmt: skip
    question = "What is 1 + 1?"
    row = {"problem": question, "question": question, **{text: f"by {text}" for text in texts}}
    row |= {"generations": ["one", "two"], "correctness_math_verify": [True, False]}
    live = np.array([int(problem_id(question)[:16], 16)], np.uint64)
    found = published._attempts(row, columns, live)
    assert len(found) == {"openr1_math": 2, "deepmath": 3}.get(name, 1)
    assert all(attempt["completion"] for attempt in found)


def test_a_fallback_makes_only_the_attempts_that_the_data_set_lacks(
    sample: Path, local_ray
) -> None:
    """The decision is that of the rule over the published attempts and those made, together."""
    engine = {"kind": "scripted", "model": "scripted", "device": "cpu", "num_cpus": 0.4,
              "max_num_seqs": 16, "seed": 5}  # fmt: skip
    fallback = [f"engines.real={json.dumps(engine)}", "difficulty.strong.fallback=real",
                "sampler.speculative_share=0"]  # fmt: skip
    made = preset(sample, "name=completed", *fallback)
    curate(made, "cpu")
    manifest = json.loads((sample / "runs/completed/manifest.json").read_text())
    strong, rest, _ = manifest["sampling"]
    assert (strong["name"], rest["name"]) == ("strong", "strong completed")
    rows, before = ledger(sample, "completed"), ledger(sample)
    few = {id_ for id_, row in before.items() if row["reason"] == "too_few_attempts"}
    assert "undecided" not in strong["decisions"] and strong["decisions"].keys() == {
        "keep", "drop_easy", "drop_hard",
    }  # fmt: skip
    attempts = AttemptLog(Store(str(sample)), rest["fingerprint"]).attempts(list(rows))
    assert {attempt.problem_id for attempt in attempts} == few
    published_ones = AttemptLog(Store(str(sample)), strong["fingerprint"]).attempts(list(few))
    rule, decided = made.difficulty.strong.rule, pq.read_table(sample / "runs/completed/decided")
    outcomes = dict(zip(decided["id"].to_pylist(), decided["outcomes"].to_pylist(), strict=True))
    for id_ in few:
        both = [
            sorted((a for a in some if a.problem_id == id_), key=lambda a: a.index)
            for some in (published_ones, attempts)
        ]
        verdicts = [attempt.verdict is Verdict.CORRECT for attempt in [*both[0], *both[1]]]
        outcome = json.loads(outcomes[id_])[0]
        assert outcome["stage"] == "strong" and outcome["completed"] == len(both[1]) > 0
        assert (outcome["correct"], outcome["finished"]) == (sum(verdicts), len(verdicts))
        assert rule.decide(sum(verdicts), len(verdicts)) == outcome["decision"]
        assert rule.decide(sum(verdicts[:-1]), len(verdicts) - 1) is None, "one attempt too many"
    assert strong["attempts"]["sampled"] == 0 and rest["attempts"]["sampled"] == len(attempts)
    assert rest["attempts"]["used"] == len(attempts) < rest["attempts"]["full_budget"]
    assert {id_: row["reason"] for id_, row in rows.items() if id_ not in few} != {}
    teachers = pq.read_table(sample / "runs/completed/examples.parquet")["teacher"].to_pylist()
    assert set(teachers) <= {"scripted"}

    told = outline(made, "cpu")
    assert "strong completed: 4 attempts, keep 1 to 2 correct" in told
