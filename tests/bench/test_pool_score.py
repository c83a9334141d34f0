"""Recall and precision of a tool from a pool's truth."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.pool.score import score

PLANTED = [
    ("e1", "exact", "c1", 1.0),
    ("n1", "near_words", "c1", 0.9),
    ("n2", "near_latex", "c2", 0.85),
    ("n3", "near_words", "c3", 0.3),
    ("s1", "sibling", "c4", 0.95),
    ("x1", "contam_verbatim", "made:0", 1.0),
    ("x2", "contam_short_embedded", "made:1", 0.1),
]
UIDS = [*(f"c{i}" for i in range(1, 7)), *(row[0] for row in PLANTED)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    columns = list(zip(*PLANTED, strict=True))
    truth = pa.table(dict(zip(("uid", "kind", "of", "jaccard"), columns, strict=True)))
    pq.write_table(truth, tmp_path / "truth.parquet")
    (tmp_path / "made.json").write_text(json.dumps({"rows": len(UIDS)}))
    return tmp_path


def without(*gone: str) -> list[str]:
    return [uid for uid in UIDS if uid not in gone]


def test_a_perfect_choice(folder: Path) -> None:
    found = score(folder, without("e1", "n1", "n2", "n3", "x1", "x2"))
    assert (found["near_recall"], found["near_precision"]) == (1, 1)
    assert found["contamination_recall"] == 1
    assert found["kinds"]["clean"] == {"rows": 6, "removed": 0, "share": 0}


def test_the_original_may_go_instead_of_its_copy(folder: Path) -> None:
    found = score(folder, without("c1", "n1", "c2", "x1", "x2"))
    assert (found["near_recall"], found["near_precision"]) == (1, 1)


def test_a_near_copy_that_stays_beside_another_of_its_group_is_a_miss(folder: Path) -> None:
    assert score(folder, without("c1", "n2"))["near_recall"] == 0.5


def test_wrong_removals(folder: Path) -> None:
    # A clean row, a sibling, and both rows of a group: one of the two had to stay.
    found = score(folder, without("c5", "s1", "c2", "n2"))
    assert found["near_precision"] == pytest.approx(1 / 4)
    assert found["near_wrong"]["whole_group"] == 1
    assert found["near_wrong"]["sibling"] == 1
    assert found["near_wrong"]["clean"] == 1


def test_reasons_part_duplicates_from_contaminations(folder: Path) -> None:
    reasons = {"n1": "near", "e1": "exact", "c5": "contamination", "c6": "proof", "x1": "near"}
    found = score(folder, without(*reasons), reasons)
    assert found["near_precision"] == 1
    assert found["false_contaminations"] == pytest.approx(1 / (len(UIDS) - 2))
    assert found["contamination_recall"] == 0.5
