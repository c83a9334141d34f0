"""A training goes on with other workers, another ZeRO stage or offload: the loss is the same."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train import reshape, tiny

pytestmark = pytest.mark.process

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    folder = tmp_path_factory.mktemp("reshape")
    tiny.model_folder(folder / "model")
    tiny.data_file(folder / "data.jsonl")
    command = [sys.executable, "-m", "tests.train.reshape", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, list[float]] = json.loads((folder / "losses.out").read_text())
    return found


@pytest.mark.parametrize("pair", reshape.PAIRS, ids=" to ".join)
def test_the_loss_goes_on(losses: dict[str, list[float]], pair: tuple[str, str]) -> None:
    whole = losses["undisturbed"]
    assert losses[" to ".join(pair)] == pytest.approx(whole[reshape.SAVED :], abs=1e-3)
    assert whole[-1] < whole[0] - 0.2  # and it does learn
