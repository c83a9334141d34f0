"""Workers, ZeRO stages, packing, accumulation and recomputing change neither loss nor gradient."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train import steps, tiny

pytestmark = pytest.mark.process

ROOT = Path(__file__).parent.parent.parent
Losses = dict[str, list[list[float]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("equal")


@pytest.fixture(scope="module")
def losses(folder: Path) -> Losses:
    tiny.model_folder(folder / "model")
    tiny.data_file(folder / "data.jsonl")
    found: Losses = {}
    for workers in (1, 2):
        command = [sys.executable, "-m", "tests.train.steps", str(folder), str(workers)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stderr[-4000:]
        found |= json.loads((folder / f"losses_{workers}.json").read_text())
    return found


EXACT = [
    name for name in [*steps.ONE, *steps.TWO] if "bfloat16" not in name and "adapt" not in name
]


@pytest.mark.parametrize("name", EXACT)
def test_layouts_have_the_same_loss_and_gradient(losses: Losses, name: str) -> None:
    for (loss, norm), (want, want_norm) in zip(losses[name], losses["one worker"], strict=True):
        assert loss == pytest.approx(want, abs=1e-3)
        assert norm == pytest.approx(want_norm, rel=0.01)
    assert losses[name][-1][0] < losses[name][0][0] - 0.2  # and it does learn


@pytest.mark.parametrize("name", ["bfloat16", "bfloat16, stage 1"])
def test_bfloat16_follows_float32(losses: Losses, name: str) -> None:
    for (loss, _), (want, _) in zip(losses[name], losses["one worker"], strict=True):
        assert loss == pytest.approx(want, abs=0.01)


def test_adapters_learn_the_same_at_every_stage(losses: Losses) -> None:
    for ours, other in zip(losses["adapters"], losses["adapters, stage 1"], strict=True):
        assert ours == pytest.approx(other, rel=1e-4)
    assert losses["adapters"][0][0] == pytest.approx(losses["one worker"][0][0], abs=1e-3)
    assert losses["adapters"][-1][0] < losses["adapters"][0][0]


@pytest.mark.parametrize("name", ["adapters", "adapters, stage 1", steps.FOUR_BITS])
def test_an_adapter_over_its_base_is_the_merged_model(
    losses: Losses, folder: Path, name: str
) -> None:
    if name not in losses:
        pytest.skip("bitsandbytes is not installed")
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(folder / "model")
    merged = AutoModelForCausalLM.from_pretrained(folder / "store/models" / name)
    ids = torch.arange(3, 60)[None]
    with torch.no_grad():
        plain = base(ids).logits
        adapted = PeftModel.from_pretrained(base, folder / "store/adapters" / name)(ids).logits
        torch.testing.assert_close(adapted, merged(ids).logits, atol=1e-4, rtol=1e-4)
    assert (adapted - plain).abs().max() > 0.01
    settings = json.loads((folder / "store/adapters" / name / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(folder / "model")


def test_a_base_in_4_bits_learns_like_a_whole_one(losses: Losses) -> None:
    if steps.FOUR_BITS not in losses:
        pytest.skip("bitsandbytes is not installed")
    found, whole = losses[steps.FOUR_BITS], losses["one worker"]
    assert found[0][0] == pytest.approx(whole[0][0], abs=0.1)
    assert found[-1][0] < found[0][0]
