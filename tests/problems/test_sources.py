"""Sources as a whole: configs, the messy pool, real pools, and the same rows however it is cut."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from limo_ray.problems import sources
from limo_ray.problems.sources import SourceConfig, open_sources
from tests.curate import messy_pool

POOLS = Path(__file__).parents[3] / "shared" / "data" / "pool"


def rows_of(configs, target=None, seed=0):
    """All rows, read in this process from spans of about `target` bytes."""
    opened = open_sources(configs, seed)
    items = sources.work_items(opened, target)
    return [row for item in items for row in sources.rows(opened, item)]


def origin(row):
    return row["file"], row["line"]


@pytest.fixture(scope="module")
def messy(tmp_path_factory):
    return messy_pool.write(tmp_path_factory.mktemp("messy"))


def assert_messy(rows, messy):
    assert len(rows) == messy_pool.ROWS
    assert len({origin(row) for row in rows}) == messy_pool.ROWS
    invalid = {origin(row): row for row in rows if row["reason"] is not None}
    assert set(invalid) == set(messy.broken)
    for at, (field, words) in messy.broken.items():
        row, evidence = invalid[at], json.loads(invalid[at]["evidence"])
        assert (row["stage"], row["reason"], row["id"]) == ("sources", "invalid", "")
        assert (row["question"], row["answer"]) == ("", "")
        assert evidence["field"] == field and words in evidence["error"], (at, words, evidence)
        assert len(evidence["value"]) <= 200
    live = [row for row in rows if row["reason"] is None]
    for row in live:
        assert row["answer"] == str(sum(map(int, re.findall(r"has (\d+)", row["question"])))), row
        assert "\u2028" in row["question"]
    assert len({row["id"] for row in live}) == messy_pool.ROWS - messy_pool.BROKEN


def test_messy_pool_gives_one_row_for_every_record_with_the_right_reasons(messy):
    assert len({words for _, words in messy.broken.values()}) >= 20
    assert_messy(rows_of(messy.sources), messy)


def test_rows_do_not_depend_on_how_files_are_cut(messy):
    whole = rows_of(messy.sources)
    opened = open_sources(messy.sources)
    cuts = Counter(item[:2] for item in sources.work_items(opened, 5_000))
    assert [count > 1 for count in cuts.values()] == [True, False, True, False, True]
    assert rows_of(messy.sources, target=5_000) == whole


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, r"path: give exactly one of path, hub, gym, got none"),
        ({"path": "a.csv", "gym": {"gcd": 1}}, r"path: give exactly one .* \['path', 'gym'\]"),
        ({"path": "a.csv", "mapping": "gsm9k"}, r"mapping: 'gsm9k' is none of numina_math_cot, "),
        ({"path": "a.csv"}, r"question: which column"),
        ({"path": "a.csv", "question": "q"}, r"answer: give one of answer and solution, got none"),
        ({"path": "a.csv", "question": "q", "answer": "a", "solution": "s"}, r"got 'a' and 's'"),
        ({"path": "a.csv", "question": "q", "solution": "s"}, r"answer_from: how is the answer"),
        ({"path": "a", "question": "q", "answer": "a", "answer_from": "x"}, r"answer_from: 'x' is"),
        ({"path": "a", "question": "q", "answer": "a", "domain": "maths"}, r"domain: 'maths' is"),
        (
            {"path": "a", "question": "q", "answer": "a", "options": "o"},
            r"domain: '' has no options",
        ),
        ({"path": "a", "mapping": "gsm8k", "format": "xml"}, r"format: 'xml' is none of parquet"),
        ({"path": "a", "mapping": "gsm8k", "limit": -1}, r"limit: -1 must be at least 0"),
        ({"path": "a", "mapping": "gsm8k", "where": ["x ~ 3"]}, r"where\[0\]: 'x ~ 3' is not of"),
        ({"path": "a", "mapping": "gsm8k", "where": ["x < old"]}, r"where\[0\]: .* wants a number"),
        (
            {"path": "a", "mapping": "gsm8k", "where": ["x in 3"]},
            r"where\[0\]: .* wants a JSON list",
        ),
        ({"path": "a", "mapping": "gsm8k", "settings": {"gcd": {}}}, r"settings: only for gym"),
        ({"gym": {"gdc": 3}}, r"gym: reasoning_gym has no kind 'gdc' \(did you mean gcd"),
        (
            {"gym": {"word_ladder": 3}},
            r"gym: kind 'word_ladder' cannot be used: its problems differ",
        ),
        ({"gym": {"gcd": 0}}, r"gym.gcd: 0 rows, must be at least 1"),
        ({"gym": {"gcd": 1}, "mapping": "gsm8k"}, r"mapping: not used with gym, got 'gsm8k'"),
        ({"gym": {"gcd": 1}, "settings": {"lcm": {}}}, r"settings: 'lcm' is not among the kinds"),
        (
            {"gym": {"gcd": 1}, "settings": {"gcd": {"x": 1}}},
            r"settings.gcd: no setting 'x', has max",
        ),
        ({"gym": {"gcd": 1}, "settings": {"gcd": {"min_value": 0}}}, r"settings.gcd: .* refused"),
    ],
)
def test_an_impossible_source_is_refused_by_field_and_value(config, words):
    with pytest.raises(ValueError, match=words):
        SourceConfig(**config).check()


def test_a_source_that_is_not_there_is_named_before_anything_is_read(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    there = SourceConfig(gym={"gcd": 1})
    for config, words in [
        (
            SourceConfig(path=f"{tmp_path}/no*.csv", mapping="gsm8k"),
            r"sources\[1\].path: no file mat",
        ),
        (
            SourceConfig(path=f"{tmp_path}/a.txt", mapping="gsm8k"),
            r"sources\[1\].format: the ending",
        ),
        (SourceConfig(gym={"lcm": 1}), r"sources\[1\].name: 'gym' is used twice"),
    ]:
        with pytest.raises(ValueError, match=words):
            open_sources([there, config])


def test_limit_takes_the_first_rows_and_does_not_count_those_not_selected(tmp_path):
    for name, start in (("b", 100), ("a", 0)):
        lines = [json.dumps({"q": f"What is {i}?", "a": i}) for i in range(start, start + 5)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join([*lines, "broken"]))
    config = SourceConfig(
        path=f"{tmp_path}/*.jsonl", question="q", answer="a", where=["a > 2"], limit=4, name="x"
    )
    rows = rows_of([config])
    assert [row["reason"] for row in rows[:6]] == ["not_selected"] * 3 + [None, None, "invalid"]
    assert [row["reason"] for row in rows[6:]] == [None]
    assert [row["answer"] for row in rows if row["answer"]] == ["3", "4", "100"]
    assert json.loads(rows[0]["evidence"]) == {"where": "a > 2", "value": "0"}


def test_settings_of_the_source_go_before_those_of_its_mapping():
    config = SourceConfig(path="x/aime.csv", mapping="gsm8k", answer="final", domain="choice")
    assert (config.mapped().question, config.mapped().answer) == ("question", "final")
    assert (config.mapped().solution, config.mapped().answer_from) == ("", "")
    assert config.label() == "aime"
    assert SourceConfig(path="data/train-*.parquet").label() == "train-"
    assert SourceConfig(path="data/*.parquet").label() == "data"


def test_signature_changes_with_a_file(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"question": "1 + 1?", "answer": "#### 2"}\n')
    configs = [SourceConfig(path=str(file), mapping="gsm8k"), SourceConfig(gym={"gcd": 3})]
    before = sources.signature(configs)
    assert json.loads(json.dumps(before)) == sources.signature(configs)
    file.write_text(file.read_text() * 2)
    assert sources.signature(configs) != before


@pytest.mark.parametrize(
    ("name", "size", "answers"),
    [
        ("gsm8k_train", 7473, ["72", "10", "5"]),
        ("asdiv", 2215, ["9", "15", "16"]),
        ("mawps", 2065, ["43", "26", "135"]),
        ("svamp", 1000, ["145", "19", "3"]),
        ("aqua", 254, ["A", "E", "A"]),
    ],
)
def test_real_pools_are_read_whole_by_their_mapping(name, size, answers):
    file = POOLS / f"{name}.jsonl"
    if not file.exists():
        pytest.skip(f"{file} is not there: the real pools are not part of the project")
    rows = rows_of([SourceConfig(path=str(file), mapping=name.removesuffix("_train"))])
    assert Counter(row["reason"] for row in rows) == {None: size}
    assert [row["line"] for row in rows] == list(range(1, size + 1))
    first = [row["answer"] for row in rows[:3]]
    if name == "aqua":
        first = [json.loads(answer)["answer"] for answer in first]
        assert "\n\nA) 5(√3 + 1)\nB) 6(√3 + √2)\n" in rows[0]["question"]
        assert rows[0]["domain"] == "choice"
    assert first == answers
    if name == "svamp":
        assert "oranges are organized into 93 groups, How big" in rows[0]["question"]
