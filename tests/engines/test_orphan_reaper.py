"""Records of processes to end are read from a folder that only this user can write."""

import os
import tempfile
from pathlib import Path

import pytest

from limo_ray.core.errors import EngineError
from limo_ray.engines.orphan_reaper import records_folder


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"limo_ray-{os.getuid()}"


def test_the_folder_is_made_for_its_user_alone(top: Path) -> None:
    assert records_folder() == top / "engines"
    assert top.stat().st_mode & 0o077 == 0
    assert records_folder() == top / "engines", "it is there already"


def test_a_folder_that_others_may_write_is_refused(top: Path) -> None:
    top.mkdir()
    top.chmod(0o777)
    with pytest.raises(EngineError, match=r"no folder of this user's alone: remove it"):
        records_folder()


def test_a_link_is_refused(top: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    top.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EngineError, match="remove it"):
        records_folder()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user_is_refused(top: Path) -> None:
    top.mkdir()
    os.chown(top, 65534, 65534)
    with pytest.raises(EngineError, match="remove it"):
        records_folder()
