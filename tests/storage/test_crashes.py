"""Whole files survive a crash of the machine, at every moment of their writing."""

import logging
from pathlib import Path

import pytest

from limo_ray.storage import durable
from limo_ray.storage.durable import publish_folder
from limo_ray.storage.store import Store
from tests.storage.crashes import Recorder


def json_files_survive(tmp_path: Path, lost: tuple[str, ...] = ()) -> int:
    (tmp_path / "store").mkdir()
    store = Store(str(tmp_path / "store"))
    with Recorder(tmp_path / "store", lost) as recorder:
        for version in range(1, 4):
            store.write_json("runs/a/manifest.json", version)
            recorder.promise(version)
    crashes = list(recorder.crashes())
    for crash in crashes:
        crash.restore(tmp_path / "after")
        found = Store(str(tmp_path / "after")).read_json("runs/a/manifest.json")
        least = crash.promises[-1] if crash.promises else None
        assert found in (least, (least or 0) + 1), f"{least} was written, {found} is there"
    return len(crashes)


def test_a_file_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    assert json_files_survive(tmp_path) > 10


@pytest.mark.parametrize("lost", ["file", "folder"])
def test_without_a_sync_the_file_is_lost(tmp_path: Path, lost: str) -> None:
    """The model finds what a program loses that does not sync its files, or their folders."""
    with pytest.raises(AssertionError, match="was written"):
        json_files_survive(tmp_path, (lost,))


@pytest.mark.parametrize("content", [b"", b'{"half": ', b"\xff\xfe\xfd", b"\0" * 100])
def test_json_that_cannot_be_read_counts_as_absent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert Store(str(tmp_path)).read_json("manifest.json") is None
    assert f"{tmp_path}/manifest.json is not readable" in caplog.text


def test_a_write_that_is_done_does_not_fail_at_its_clean_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store goes away just after: a write said to have failed would be made twice."""
    folder, aside = tmp_path / "log", tmp_path / "aside"
    publish = durable.publish

    def publish_and_go_away(finished: str, path: str) -> None:
        publish(finished, path)
        folder.rename(aside)
        folder.write_text("no folder")

    monkeypatch.setattr(durable, "publish", publish_and_go_away)
    Store(str(tmp_path)).write_text("log/part", "rows")
    assert (aside / "part").read_text() == "rows"


def folder_of(path: Path, version: str) -> Path:
    path.mkdir()
    for name in ("config.json", "weights", f"only-{version}"):
        (path / name).write_text(version)
    return path


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_is_replaced_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    """Readers and crashes find all files of one version; without exchanging, also no folder."""
    if not can_exchange:
        monkeypatch.setattr(durable, "exchange", lambda one, other: False)
    root = tmp_path / "models"
    root.mkdir()
    with Recorder(root) as recorder:
        for version in ("1", "2"):
            publish_folder(folder_of(root / f"model.{version}", version), root / "model")
            recorder.promise(version)
    outcomes = set()
    for crash in recorder.crashes():
        crash.restore(tmp_path / "after")
        model = tmp_path / "after" / "model"
        found = {path.name: path.read_text() for path in model.glob("*")}
        version = found.get("config.json")
        assert version is None or sorted(found) == ["config.json", f"only-{version}", "weights"]
        assert set(found.values()) <= {version}
        assert version == "2" or crash.promises != ["1", "2"]
        outcomes.add((version, len(crash.promises)))
    wanted = {(None, 0), ("1", 0), ("1", 1), ("2", 1), ("2", 2)}
    assert outcomes == wanted | (set() if can_exchange else {(None, 1)})


def test_a_folder_is_copied_in_place_of_another(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    for version in ("1", "2"):
        source = folder_of(tmp_path / version, version)
        (source / "sub").mkdir()
        (source / "sub/file").write_text(version)
        store.copy_folder_in(source, "models/a", last="config.json")
        assert store.files("models/a", "") == ["config.json", f"only-{version}", "weights"]
        assert store.read_text("models/a/sub/file") == version
    assert [path.name for path in (tmp_path / "store/models").iterdir()] == ["a"]
