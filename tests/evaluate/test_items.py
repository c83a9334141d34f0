"""Items with their answers: all of them, or an error that says what to do; bad ones are named."""

import csv
import json
from pathlib import Path

import pytest

from limo_ray.core import config as configs
from limo_ray.curate.config import CurateConfig
from limo_ray.evaluate.config import BenchmarkConfig, EvaluateConfig
from limo_ray.evaluate.items import checksum, read_items
from limo_ray.problems.benchmarks import BENCHMARKS, PAPER, PAPER_MODELS, of_source
from limo_ray.problems.sources import SourceConfig
from limo_ray.verify import Verdict, verify

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parents[3] / "shared" / "data" / "benchmarks"


def write(folder, name, rows):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def sums(count, **changed):
    return [
        {"problem": f"What is {n} + {n}?", "answer": str(2 * n)} | changed for n in range(count)
    ]


def aime(tmp_path, **config):
    return read_items(BenchmarkConfig(name="aime24", **config), str(tmp_path), 0)


def test_questions_answers_and_numbers(tmp_path):
    write(tmp_path, "aime24.jsonl", sums(30))
    found = aime(tmp_path)
    assert found.numbers == list(range(1, 31)) and found.total == 30
    assert [problem.answer for problem in found.problems][:3] == ["0", "2", "4"]
    assert {problem.source for problem in found.problems} == {"aime24"}
    assert found.left_out == []
    assert "aime24: another copy (checksum" in found.notes[0], "the questions are not AIME's"


def test_another_number_of_items_is_an_error_that_says_what_to_do(tmp_path):
    path = write(tmp_path, "aime24.jsonl", sums(29))
    with pytest.raises(ValueError, match=r"aime24: 29 items in .*, must be 30.*`items`") as e:
        aime(tmp_path)
    assert path in str(e.value)
    assert aime(tmp_path, items=29).total == 29


def test_a_checksum_pins_the_items_whatever_their_order(tmp_path):
    write(tmp_path, "aime24.jsonl", sums(30))
    pinned = aime(tmp_path).checksum
    write(tmp_path, "aime24.jsonl", sums(30)[::-1])
    assert aime(tmp_path, checksum=pinned).checksum == pinned
    write(tmp_path, "aime24.jsonl", [*sums(29), {"problem": "What is 29 + 29?", "answer": "59"}])
    with pytest.raises(ValueError, match=f"items have changed: .*pinned is {pinned}"):
        aime(tmp_path, checksum=pinned)


@pytest.mark.process
def test_a_gold_answer_that_the_verifier_refuses_is_left_out_and_named(tmp_path):
    rows = sums(30)
    rows[4]["answer"] = ""
    rows[20]["answer"] = "90到96这7个连续整数中没有质数"
    write(tmp_path, "aime24.jsonl", rows)
    found = aime(tmp_path)
    assert [one["item"] for one in found.left_out] == [5, 21]
    assert 5 not in found.numbers and 21 not in found.numbers and len(found.problems) == 28
    assert "2 of 30 items are left out" in found.notes[1] and "items 5, 21" in found.notes[1]
    write(tmp_path, "aime24.jsonl", sums(30, answer=""))
    with pytest.raises(ValueError, match=r"aime24.jsonl:1: .*empty"):
        aime(tmp_path)


def test_an_item_that_repeats_another_is_left_out_and_named(tmp_path):
    write(tmp_path, "aime24.jsonl", [*sums(28), sums(3)[2], sums(1)[0] | {"answer": "7"}])
    found = aime(tmp_path)
    whys = {one["item"]: one["why"] for one in found.left_out}
    assert whys == {29: "the same question as item 3", 30: "the same question as item 1"}
    assert "2 of 30 items are left out, they ask what others ask: items 29, 30" in found.notes[1]


def test_a_benchmark_that_is_nowhere_says_where_to_get_it(tmp_path):
    with pytest.raises(ValueError, match=r"chmath: is not on the hub.*put chmath.jsonl with"):
        read_items(BenchmarkConfig(name="chmath"), str(tmp_path), 0)


def test_a_file_may_name_its_columns_otherwise(tmp_path):
    rows = [{"question": f"What is {n} + 1?", "answer": n + 1.0} for n in range(30)]
    write(tmp_path, "aime24.jsonl", rows)
    assert aime(tmp_path).problems[2].answer == "3"
    write(tmp_path, "gsm8k.jsonl", [{"question": "1 + 1?", "answer": "It is 2.\n#### 2"}])
    found = read_items(BenchmarkConfig(name="gsm8k", items=1), str(tmp_path), 0)
    assert found.problems[0].answer == "2"


def gpqa(tmp_path, seed):
    with (tmp_path / "gpqa_diamond.csv").open("w", newline="") as file:
        columns = ["Question", "Correct Answer", *BENCHMARKS["gpqa_diamond"].wrong,
                   "High-level domain"]  # fmt: skip
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for n in range(198):
            wrong = {name: f"{n} + {i}" for i, name in enumerate(columns[2:5])}
            writer.writerow(
                {
                    "Question": f"Which is no. {n}?",
                    "Correct Answer": f"it is {n}\n",
                    "High-level domain": "Physics" if n % 2 else "Biology",
                }
                | wrong
            )
    return read_items(BenchmarkConfig(name="gpqa_diamond"), str(tmp_path), seed)


@pytest.mark.process
def test_options_of_multiple_choice_are_shuffled_by_seed(tmp_path):
    found = gpqa(tmp_path, 0)
    letters = []
    for n, problem in enumerate(found.problems):
        gold = json.loads(problem.answer)
        letters.append(gold["answer"])
        assert problem.domain == "choice"
        assert gold["options"][gold["answer"]] == f"it is {n}"
        for letter, text in gold["options"].items():
            assert f"\n{letter}) {text}" in problem.question
        assert verify(problem.answer, rf"\boxed{{{letters[-1]}}}", "choice") is Verdict.CORRECT
        other = "ABCD".replace(letters[-1], "")[0]
        assert verify(problem.answer, rf"\boxed{{{other}}}", "choice") is Verdict.WRONG
        assert "Incorrect" not in problem.metadata and "domain" in problem.metadata
    assert all(30 < letters.count(letter) < 70 for letter in "ABCD")
    assert gpqa(tmp_path, 0).problems == found.problems
    assert gpqa(tmp_path, 1).checksum != found.checksum


@pytest.mark.process
def test_the_laptop_evaluation_asks_what_the_laptop_curation_kept_out():
    curated = configs.load(CurateConfig, [str(ROOT / "conf/curate/laptop.yaml")])
    config = configs.load(EvaluateConfig, [str(ROOT / "conf/evaluate/laptop.yaml")])
    (held_out,) = curated.decontaminate.files
    found = read_items(config.benchmarks[0], "", config.seed)
    kept_out = [item.question for item in of_source(held_out, curated.seed)]
    assert [problem.question for problem in found.problems] == list(dict.fromkeys(kept_out))
    assert found.total == len(kept_out) == 108 and found.by == ["kind"]


def test_the_papers_protocol():
    config = configs.load(EvaluateConfig, [str(ROOT / "conf/evaluate/limo.yaml")])
    assert {one.name for one in config.benchmarks} == set(PAPER) and len(PAPER) == 10
    sampled = {one.name for one in config.benchmarks
               if config.protocol(one)[1].sampling.temperature}  # fmt: skip
    assert sampled == {"aime24", "amc23", "chmath"}
    assert {config.protocol(one)[1].attempts for one in config.benchmarks} == {1, 4}
    means = [sum(values[i] for values in PAPER.values()) / 10 for i in range(len(PAPER_MODELS))]
    assert means == pytest.approx([78.1, 49.9, 32.3], abs=0.06)  # as table 2 has them


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("benchmarks=[{name: aime1983}]", "'aime1983' is none of aime24, .*has no source"),
        ("benchmarks=[{name: held out}]", "must be a word"),
        ("benchmarks=[{name: x, source: {gym: {gdc: 3}}}]", "no kind 'gdc'"),
        ("benchmarks=[{name: aime24}, {name: aime24}]", "names must differ"),
        ("benchmarks=[]", "benchmarks: none given"),
        ("only=[aime25]", "'aime25' is none of held_out"),
        ("model=", "model: none given"),
        ("endpoint=localhost", "must start with http"),
        ("benchmarks[0].protocol=greedy", "'greedy' is none of sampled"),
        ("protocols.sampled.pass_at=[9]", "9 must be between 1 and attempts"),
        ("protocols.sampled.sampling.max_tokens=600", "more than engine.max_model_len"),
        ("client.concurrency=0", "must be at least 1"),
    ],
)  # fmt: skip
def test_mistakes_in_a_config_are_named(override, words):
    with pytest.raises(configs.ConfigError, match=words):
        configs.load(EvaluateConfig, [str(ROOT / "conf/evaluate/laptop.yaml"), override])


def test_own_items_from_a_file(tmp_path):
    path = write(tmp_path, "exam.jsonl", [{"q": f"{n} + 1?", "a": n + 1, "level": n % 3}
                                          for n in range(9)])  # fmt: skip
    source = SourceConfig(path=path, question="q", answer="a")
    found = read_items(BenchmarkConfig(name="exam", source=source, by=["level"]), "", 0)
    assert [json.loads(problem.metadata)["level"] for problem in found.problems][:4] == [0, 1, 2, 0]
    assert found.origin == path and found.name == "exam"


@pytest.mark.parametrize(
    ("name", "left_out"), [("aime24", 0), ("amc23", 0), ("math500", 0), ("gradeschool", 15)]
)
def test_real_benchmarks(name, left_out):
    if not (DATA / f"{name}.jsonl").exists():
        pytest.skip(f"no {name}.jsonl: this test wants real data in {DATA}")
    found = read_items(BenchmarkConfig(name=name), str(DATA), 0)
    assert len(found.left_out) == left_out
    assert not any("another copy" in note for note in found.notes)
    assert len(found.problems) + left_out == BENCHMARKS[name].items
    if name == "math500":
        assert found.by == ["level", "subject"]
        assert {json.loads(p.metadata)["level"] for p in found.problems} == {1, 2, 3, 4, 5}


def test_the_checksum_is_of_question_answer_and_domain():
    row = {"question": "What is 1 + 1?", "answer": "2", "domain": "math"}
    known = checksum([row])
    assert checksum([row | {"question": " what  is 1 + 1?"}]) == known
    for change in ({"answer": "3"}, {"domain": "choice"}, {"question": "What is 1 + 2?"}):
        assert checksum([row | change]) != known
