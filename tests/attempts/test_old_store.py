"""A store that an earlier version made is read and used as it is: a promise to whoever has one.

`old_store/` is what that version's curation of 20 sums by the scripted engine left. Then it merged
the parts of each log, once as a kill would have left it, with a source that was not deleted; the
strong log was merged twice over. One verdict is an ERROR, and there are two partial completions,
one of an attempt that is logged.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from limo_ray.attempts.log import AttemptLog
from limo_ray.attempts.partials import Partial, Partials
from limo_ray.attempts.parts import read_table
from limo_ray.core import config
from limo_ray.core.records import Verdict, problem_id
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.pipeline import curate
from limo_ray.runs import status
from limo_ray.storage.store import Store

OLD = Path(__file__).parent / "old_store"
EXPECTED: dict[str, Any] = json.loads((OLD / "expected.json").read_text())
IDS = [problem_id(f"What is {n} + {n}?") for n in range(20)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    shutil.copytree(OLD / "attempts", tmp_path / "attempts")
    return Store(str(tmp_path))


def attempts_of(log: AttemptLog) -> list[tuple[str, int]]:
    """Without those that were verified again, which are there twice."""
    return sorted({(row["problem_id"], row["index"]) for row in rows(log)})


def rows(log: AttemptLog) -> list[dict[str, Any]]:
    columns = ["problem_id", "index", "verdict", "judge", "completion"]
    return read_table(log.store, log.folder, columns).to_pylist()


@pytest.mark.parametrize("stage", EXPECTED["fingerprints"])
def test_the_index_is_the_same(store: Store, stage: str) -> None:
    log = AttemptLog(store, EXPECTED["fingerprints"][stage])
    index = log.read_index()
    keys = {row["problem_id"]: row["judge"] for row in rows(log)}
    found = {
        str(n): {str(i): str(v) for i, v in sorted(index.known(name, keys[name]).verdicts.items())}
        for n, name in enumerate(IDS)
        if name in keys
    }
    assert found == EXPECTED["verdicts"][stage]
    assert len(index) == sum(map(len, found.values())), "a source that was not deleted counts too"
    logged = {(a.problem_id, a.index): a.completion for a in log.attempts(IDS)}
    assert logged == {(row["problem_id"], row["index"]): row["completion"] for row in rows(log)}


def test_partial_completions_are_found_and_deleted_once_logged(store: Store) -> None:
    fingerprint = EXPECTED["fingerprints"]["strong"]
    partials = Partials(store, fingerprint)
    assert partials.delete_used(AttemptLog(store, fingerprint).read_index()) == 1
    number, index = EXPECTED["unlogged"]
    assert partials.find(IDS[number], index) == Partial(
        problem_id=IDS[number], index=index, tokens=[4, 5], completion="so far"
    )


def test_status_counts_what_is_in_the_logs(store: Store) -> None:
    for stage, fingerprint in EXPECTED["fingerprints"].items():
        expected = [
            v for verdicts in EXPECTED["verdicts"][stage].values() for v in verdicts.values()
        ]
        found = status.in_log(store, fingerprint)
        assert found["attempts"] == len(expected)
        assert found["verdicts"] == {verdict: expected.count(verdict) for verdict in set(expected)}


def test_a_curation_samples_nothing_again(local_ray, store: Store, tmp_path: Path) -> None:
    logs = {name: AttemptLog(store, each) for name, each in EXPECTED["fingerprints"].items()}
    before = {name: attempts_of(log) for name, log in logs.items()}
    source = [{"path": str(OLD / "sums.jsonl"), "question": "question", "answer": "answer"}]
    arguments = [str(OLD / "curate.yaml"), f"sources={json.dumps(source)}", f"store={tmp_path}"]
    result = curate(config.load(CurateConfig, arguments), "cpu")
    assert result.selected == 3
    manifest = json.loads((tmp_path / "runs/old/manifest.json").read_text())
    assert manifest["fingerprints"] == EXPECTED["fingerprints"]
    assert sorted(folder.name for folder in (tmp_path / "attempts").iterdir()) == sorted(
        EXPECTED["fingerprints"].values()
    )
    after = {name: attempts_of(log) for name, log in logs.items()}
    assert after == before, "an attempt was sampled though the log has it"
    last = {row["problem_id"]: row for row in rows(logs["weak"])}
    assert last[IDS[EXPECTED["failed"]]]["verdict"] != Verdict.ERROR, "it was verified again"
