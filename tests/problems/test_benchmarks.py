"""Benchmarks: all items or an error that names the benchmark, the file and the number."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from limo_ray.problems.benchmarks import BENCHMARKS, Item, load, of_source
from limo_ray.problems.sources import SourceConfig

DATA = Path(__file__).parents[3] / "shared" / "data" / "benchmarks"


def write(folder, name, rows):
    path = folder / name
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def questions(count, column="problem"):
    return [{column: f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(count)]


@pytest.mark.parametrize("column", ["problem", "question"])
@pytest.mark.parametrize("name", ["aime24", "amc23", "gradeschool"])
def test_a_file_in_the_folder_is_read_whatever_its_column(tmp_path, name, column):
    count = BENCHMARKS[name].items
    write(tmp_path, f"{name}.jsonl", questions(count, column))
    items = load(name, str(tmp_path))
    assert [item.number for item in items] == list(range(1, count + 1))
    assert items[4] == Item(benchmark=name, number=5, question="What is 4 + 4?", domain="math")
    assert load(name, f"{tmp_path}/") == items


def test_other_kinds_of_files(tmp_path):
    rows = questions(30)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "chmath.parquet")
    (tmp_path / "aime25.json").write_text(json.dumps(rows))
    for name in ("chmath", "aime25"):
        assert [item.question for item in load(name, str(tmp_path))] == [r["problem"] for r in rows]


def test_only_the_question_is_read(tmp_path):
    write(tmp_path, "aime24.jsonl", [{"problem": f"Find {n}."} for n in range(30)])
    assert len(load("aime24", str(tmp_path))) == 30


def test_a_benchmark_of_any_number(tmp_path):
    for count in (1, 674, 675):
        write(tmp_path, "olympiadbench.jsonl", questions(count))
        assert len(load("olympiadbench", str(tmp_path))) == count


@pytest.mark.parametrize("count", [29, 31, 1])
def test_too_few_or_too_many_items(tmp_path, count):
    path = write(tmp_path, "aime24.jsonl", questions(count))
    with pytest.raises(ValueError) as e:
        load("aime24", str(tmp_path))
    assert str(e.value) == f"benchmark aime24: {count} items in {path}, must be 30"


def test_an_empty_file(tmp_path):
    path = write(tmp_path, "olympiadbench.jsonl", [])
    with pytest.raises(ValueError, match="olympiadbench: no items in ") as e:
        load("olympiadbench", str(tmp_path))
    assert path in str(e.value)


def test_a_file_without_a_column_of_questions(tmp_path):
    path = write(tmp_path, "aime24.jsonl", questions(30, "text"))
    with pytest.raises(ValueError, match="benchmark aime24: ") as e:
        load("aime24", str(tmp_path))
    for words in (f"{path}:1", "no column 'problem'", "no column 'question'"):
        assert words in str(e.value)


@pytest.mark.parametrize("column", ["problem", "question"])
@pytest.mark.parametrize("broken", ["{", '{"COLUMN": ""}', '{"COLUMN": 3'])
def test_an_item_that_cannot_be_read_is_named_and_never_left_out(tmp_path, column, broken):
    rows = questions(30, column)
    rows[7] = broken.replace("COLUMN", column)
    path = write(tmp_path, "aime24.jsonl", rows)
    with pytest.raises(ValueError, match="benchmark aime24: ") as e:
        load("aime24", str(tmp_path))
    assert f"{path}:8" in str(e.value)


def test_an_unknown_name(tmp_path):
    with pytest.raises(ValueError, match="benchmark 'aime1924' is none of aime24, "):
        load("aime1924", str(tmp_path))


def test_a_benchmark_that_is_neither_on_the_hub_nor_in_the_folder(tmp_path):
    with pytest.raises(ValueError, match=r"gradeschool: is not on the hub, .*folder="):
        load("gradeschool")
    with pytest.raises(ValueError, match="benchmark gradeschool: is not on the hub") as e:
        load("gradeschool", str(tmp_path))
    assert f"{tmp_path}/gradeschool.jsonl" in str(e.value)


def test_further_sources_are_items_too(tmp_path):
    path = write(tmp_path, "own.jsonl", [{"q": "What is 1 + 1?", "a": "2"}])
    items = of_source(SourceConfig(name="own", path=path, question="q", answer="a"))
    assert items == [Item(benchmark="own", number=1, question="What is 1 + 1?", domain="math")]
    made = of_source(SourceConfig(name="held_out", gym={"gcd": 3}), seed=5)
    assert [(item.benchmark, item.number, item.domain) for item in made] == [
        ("held_out", number, "gym") for number in (1, 2, 3)
    ]
    assert made != of_source(SourceConfig(name="held_out", gym={"gcd": 3}), seed=6)
    with pytest.raises(ValueError, match=r"benchmark own: .*own\.jsonl:1: .*no column 'x'"):
        of_source(SourceConfig(name="own", path=path, question="x", answer="a"))
    gone = str(tmp_path / "none.jsonl")
    with pytest.raises(ValueError, match=r"none\.jsonl"):
        of_source(SourceConfig(name="own", path=gone, question="q", answer="a"))


def test_every_benchmark_can_be_had_from_somewhere():
    for name, known in BENCHMARKS.items():
        assert known.items >= 0 and known.question, name
        assert known.hub.count("/") == bool(known.hub), name


@pytest.mark.parametrize(
    ("name", "count"), [("aime24", 30), ("amc23", 40), ("gradeschool", 210), ("math500", 500)]
)
def test_real_benchmarks_have_all_their_items(name, count):
    if not (DATA / f"{name}.jsonl").exists():
        pytest.skip(f"no {name}.jsonl: this test wants real data in {DATA}")
    items = load(name, str(DATA))
    assert len(items) == count == BENCHMARKS[name].items
    assert all(item.question.strip() and item.benchmark == name for item in items)
    assert len({item.question for item in items}) > count - 5
