"""Steps that ask a model: what is asked, how replies are parsed, and what follows from them."""

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from limo_ray.attempts.log import AttemptLog
from limo_ray.core import config
from limo_ray.curate.agreement import agreement, read_labels
from limo_ray.curate.annotation_config import AnnotationConfig
from limo_ray.curate.annotation_prompts import READY, prompt
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.pipeline import curate
from limo_ray.curate.quality import Criterion, QualityConfig, score
from limo_ray.storage.store import Store

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "conf/curate/published_sample.parquet"
PRESET = str(ROOT / "conf/curate/published_sample.yaml")
PROOFS = ["Prove that the sum of the first 10 positive integers is 55.",
          "Prove that there are infinitely many primes."]  # fmt: skip
REPLIES = ["05", "11", "complete", "incomplete", "7 3 5 8", "9 9 9 9", "same", "different", "none",
           "Find the sum of the first 10 positive integers. => 55"]  # fmt: skip


def annotation(**values) -> AnnotationConfig:
    return AnnotationConfig(**({"name": "asked", "engine": "e"} | values))


def test_a_prompt_takes_values_with_braces_as_they_are() -> None:
    asked = prompt("{question} or {item}?", {"question": r"$\frac{item}{2}$", "item": "{question}"})
    assert asked.startswith(r"$\frac{item}{2}$ or {question}?")
    assert asked.endswith("Answer: <your reply>")
    assert prompt("{question}", {"question": "?"}, ["a", "b"]).endswith("Answer: <one of: a, b>")
    assert set(READY["subject"].spec["one_of"]) >= {"05", "11", "60"}


@pytest.mark.parametrize(
    ("values", "error"),
    [({"kind": "custom"}, "prompt"), ({"kind": "subject", "replies": ["a"]}, "replies"),
     ({"kind": "well_posed", "drop": ["no"]}, "complete, incomplete"),
     ({"kind": "rating", "drop": ["1 1 1 1"]}, "drop"), ({"kind": "subjects"}, "kind"),
     ({"kind": "subject", "attempts": 3}, "greedy"), ({"name": "A b"}, "name"),
     ({"kind": "rating", "prompt": "{question}"}, "solution")],
)  # fmt: skip
def test_a_bad_annotation_is_refused(values: dict, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        annotation(**values).check()


def test_agreement_counts_what_is_not_parsed_against_the_model() -> None:
    found = agreement("well_posed", [("complete", "complete")] * 3 + [("incomplete", None)])
    assert (found.labels, found.agree, found.constant) == (4, 3, 0.75)
    assert (found.low, found.high) == pytest.approx((0.3006, 0.9544), abs=1e-3)
    assert agreement("rating", [("7 7 7 7", "8 8 8 8"), ("1 1 1 1", "9 1 1 1")]).agree == 1
    assert agreement("well_posed", [("complete", None)] * 5).low == 0
    assert agreement("well_posed", [("complete", "complete")] * 5).high == pytest.approx(1)


def test_a_bad_label_is_an_error_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text(
        '{"question": "1?", "label": "complete"}\n{"question": "2?", "label": "fine"}\n'
    )
    with pytest.raises(ValueError, match=r"labels.jsonl:2: label: 'fine'"):
        read_labels(annotation(kind="well_posed", labels=str(file)))
    file.write_text('{"label": "complete"}\n')
    with pytest.raises(ValueError, match=r"labels.jsonl:1: question: is missing"):
        read_labels(annotation(kind="well_posed", labels=str(file)))
    with pytest.raises(ValueError, match="is not there"):
        read_labels(annotation(kind="well_posed", labels=str(tmp_path / "none.jsonl")))


def arguments(store: Path, folder: Path, *more: str) -> list[str]:
    proofs = folder / "proofs_in.jsonl"
    proofs.write_text("".join(json.dumps({"question": p, "answer": "1"}) + "\n" for p in PROOFS))
    item = folder / "benchmark.jsonl"
    item.write_text(
        json.dumps(
            {"question": "State the final answer only: which prime comes after 7?", "answer": "11"}
        )
    )
    labels = folder / "labels.jsonl"
    rows = [{"question": f"Is {n} + {n} finite?", "label": "complete"} for n in range(40)]
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = [{"path": str(SAMPLE), "mapping": "openr1_math"},
               {"path": str(proofs), "question": "question", "answer": "answer"}]  # fmt: skip
    benchmark = [{"path": str(item), "question": "question", "answer": "answer", "name": "primes"}]
    asks = [
        {"name": "msc", "kind": "subject"},
        {"name": "sound", "kind": "well_posed", "drop": ["incomplete"], "labels": str(labels)},
        {"name": "stars", "kind": "rating"},
        {"name": "twin", "kind": "paraphrase", "similarity": 0, "drop": ["same"]},
        {"name": "hidden", "kind": "final_answer"},
    ]
    asks = [
        ask | {"engine": "asked", "attempts": 4, "sampling": {"temperature": 1}} for ask in asks
    ]
    engine = {"kind": "scripted", "model": "none", "max_num_seqs": 32, "num_cpus": 0.5,
              "script": {"replies": REPLIES}}  # fmt: skip
    return [
        PRESET, f"sources={json.dumps(sources)}", f"engines.sample.published.path={SAMPLE}",
        f"decontaminate.files={json.dumps(benchmark)}", f"annotate={json.dumps(asks)}",
        f"engines.asked={json.dumps(engine)}", f"store={store}", "sampler.flush_s=0.2",
        "quality={rating: 0.2, elaborated: {weight: 0.1}}", "selection.k=10",
        "selection.method=s1", "selection.group_by=annotations.msc", "gold_check=false", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def annotated(local_ray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("annotated")
    curate(config.load(CurateConfig, arguments(folder / "store", folder)), "cpu")
    return folder


def of(folder: Path, name: str) -> list[dict]:
    rows = pq.read_table(folder / "store/runs/published_sample/annotations.parquet").to_pylist()
    return [row for row in rows if row["annotation"] == name]


def test_every_kept_problem_is_asked_about_and_what_is_not_parsed_is_apart(annotated: Path) -> None:
    run = annotated / "store/runs/published_sample"
    manifest = json.loads((run / "manifest.json").read_text())
    ledger = {row["problem_id"]: row for row in pq.read_table(run / "ledger").to_pylist()}
    kept = {
        id_ for id_, row in ledger.items() if row["stage"] in ("annotate", "chains", "selection")
    }
    statistics = {each["name"]: each for each in manifest["annotations"]}
    for name in ("msc", "sound", "stars", "twin"):
        rows = of(annotated, name)
        assert {row["problem_id"] for row in rows} <= kept and len(rows) == statistics[name][
            "asked"
        ]
        parsed = Counter(row["reply"] for row in rows if row["reply"])
        assert parsed == statistics[name]["replies"]
        unparsed = len(rows) - parsed.total()
        assert statistics[name]["unparsed"] == {"unparsed": unparsed} and unparsed
    assert {row["problem_id"] for row in of(annotated, "msc")} == kept
    assert {row["reply"] for row in of(annotated, "msc")} == {"05", "11", None}
    assert {row["item"] for row in of(annotated, "twin")} == {"primes:1"}
    page = (run / "report.html").read_text()
    assert "What a model was asked" in page and "of 40 labels" in page


def test_replies_drop_problems_rate_chains_and_group_them(annotated: Path) -> None:
    run = annotated / "store/runs/published_sample"
    ledger = {row["problem_id"]: row for row in pq.read_table(run / "ledger").to_pylist()}
    wrong = {r["problem_id"] for r in of(annotated, "sound") if r["reply"] == "incomplete"}
    twins = {r["problem_id"] for r in of(annotated, "twin") if r["reply"] == "same"} - wrong
    dropped = {id_: row for id_, row in ledger.items() if row["stage"] == "annotate"}
    assert {id_ for id_, row in dropped.items() if row["reason"] == "sound"} == wrong != set()
    assert {id_ for id_, row in dropped.items() if row["reason"] == "twin"} == twins != set()
    assert json.loads(dropped[min(twins)]["evidence"]) == {"reply": "same", "item": "primes:1"}
    examples = pq.read_table(run / "examples.parquet").to_pylist()
    codes = {row["problem_id"]: row["reply"] for row in of(annotated, "msc")}
    assert all(json.loads(e["annotations"]).get("msc") == codes[e["problem_id"]] for e in examples)
    assert len({example["score_rating"] for example in examples}) > 1


def test_a_rating_is_one_more_criterion_and_none_counts_as_the_mean() -> None:
    texts = ["Therefore it is.", "Perhaps, check it.", "So."]
    plain, rated = score(texts, QualityConfig()), score(texts, QualityConfig(), [2, None, 8])
    assert plain["score"].tolist() == rated["score"].tolist()
    assert rated["score_rating"].tolist() == pytest.approx([-(1.5**0.5), 0, 1.5**0.5])
    config = QualityConfig(elaborated=Criterion(weight=0.1), rating=0.2)
    config.check()
    difference = score(texts, config, [2, None, 8])["score"] - score(texts, config)["score"]
    assert difference.tolist() == pytest.approx([-0.2 * 1.5**0.5, 0, 0.2 * 1.5**0.5])
    with pytest.raises(ValueError, match=r"rating 0\.2"):
        QualityConfig(rating=0.2).check()


def test_labels_are_asked_about_and_proofs_become_problems(annotated: Path) -> None:
    run = annotated / "store/runs/published_sample"
    statistics = json.loads((run / "manifest.json").read_text())["annotations"]
    agreed = next(each for each in statistics if each["name"] == "sound")["agreement"]
    assert agreed["labels"] == 40 and 0 < agreed["agree"] < 40 and agreed["constant"] == 1
    assert agreed["low"] < agreed["agree"] / 40 < agreed["high"]
    rows = of(annotated, "hidden")
    assert len(rows) == len(PROOFS)
    found = [json.loads(line) for line in (run / "proofs.jsonl").read_text().splitlines()]
    assert len(found) == sum(row["reply"] not in (None, "none") for row in rows)
    assert all(each["answer"] == "55" and each["question"].startswith("Find") for each in found)


def test_nothing_is_asked_twice(annotated: Path) -> None:
    logs, asked = annotated / "store/attempts", annotated / "store/runs/published_sample/questions"
    questions = set(pq.read_table(asked, columns=["id"])["id"].to_pylist())

    def logged() -> Counter:
        found: Counter = Counter()
        for folder in logs.iterdir():
            rows = pq.read_table(folder, columns=["problem_id", "index"]).to_pylist()
            found.update(
                (folder.name, row["problem_id"], row["index"])
                for row in rows
                if row["problem_id"] in questions
            )
        return found

    before = logged()
    assert before and max(before.values()) == 1
    again = arguments(annotated / "store", annotated, "name=again", "selection.k=9")
    curate(config.load(CurateConfig, again), "cpu")
    assert logged() == before


def test_a_reply_in_the_log_is_an_attempt_that_was_tried_until_it_could_be_parsed(
    annotated: Path,
) -> None:
    store = annotated / "store"
    questions = pq.read_table(store / "runs/published_sample/questions").to_pylist()
    ids = [row["id"] for row in questions if row["source"] == "sound"]
    for folder in (store / "attempts").iterdir():
        attempts = AttemptLog(Store(str(store)), folder.name).attempts(ids)
        by_id: dict[str, list] = {}
        for attempt in sorted(attempts, key=lambda each: each.index):
            by_id.setdefault(attempt.problem_id, []).append(attempt)
        for several in by_id.values():
            assert all(attempt.verdict == "unparsed" for attempt in several[:-1])
            assert several[-1].verdict == "correct" or len(several) == 4
