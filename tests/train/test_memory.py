"""The memory plan: beside measured peaks, and what it says of models nobody has here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from limo_ray.core import config as configs
from limo_ray.train import memory
from limo_ray.train.config import TrainConfig
from tests.train import tiny

ROOT = Path(__file__).parent.parent.parent
QWEN_32B = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 5120,
    "intermediate_size": 27648, "num_hidden_layers": 64, "num_attention_heads": 40,
    "num_key_value_heads": 8, "vocab_size": 152064, "max_position_embeddings": 32768,
    "tie_word_embeddings": False, "use_sliding_window": False, "rms_norm_eps": 1e-6,
}  # fmt: skip
SMALL = {
    "wide": {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8,
             "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 8192},
    "deep": {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 20,
             "num_attention_heads": 6, "num_key_value_heads": 6, "vocab_size": 16384},
}  # fmt: skip


@pytest.mark.process
@pytest.mark.parametrize("offload", ["false", "true"])
@pytest.mark.parametrize(("name", "stage"), [("wide", "1"), ("deep", "3")])
def test_the_plan_is_near_the_measured_peak(
    tmp_path_factory: pytest.TempPathFactory, name: str, stage: str, offload: str
) -> None:
    folder = tiny.model_folder(tmp_path_factory.mktemp(name) / "model", **SMALL[name])
    command = [sys.executable, "-m", "tests.train.measure", str(folder), stage, "bfloat16", offload]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    measured, planned = map(float, done.stdout.split()[-2:])
    assert planned == pytest.approx(measured, rel=0.15)


def judged(folder: Path, *changed: str) -> memory.MemoryEstimate:
    (folder / "config.json").write_text(json.dumps(QWEN_32B))
    preset = str(ROOT / "conf/train/limo.yaml")
    config = configs.load(TrainConfig, [preset, f"model={folder}", *changed])
    return memory.estimate(config, "gpu", config.rows.max_tokens)


def test_32b_fits_one_node_with_the_states_in_host_memory(tmp_path: Path) -> None:
    found = judged(tmp_path)
    assert found.fits, found.text()
    assert found.host["optimizer states"] / memory.GIB == pytest.approx(549, abs=1)


@pytest.mark.process
@pytest.mark.parametrize("parameters", [False, True])
def test_offloaded_states_lie_between_deepspeeds_estimates(
    tmp_path: Path, parameters: bool
) -> None:
    """DeepSpeed counts 16 or 18 bytes a parameter, and half as much again for what it left out."""
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs as needs

    found = judged(tmp_path, f"zero.offload_parameters={parameters}").host
    ours = found["optimizer states"] + found["parameters"]
    low, high = (
        needs(32_763_876_352, 0, num_gpus_per_node=8, cpu_offload_params=parameters,
              additional_buffer_factor=factor)[0]
        for factor in (1.0, 1.5)
    )  # fmt: skip
    assert low < ours < high


def test_32b_does_not_fit_without_and_the_plan_says_what_to_try(tmp_path: Path) -> None:
    found = judged(tmp_path, "zero.offload_optimizer=false")
    assert not found.fits
    text = found.text()
    assert "does not fit, because optimizer states alone take" in text
    assert "zero.offload_optimizer=true" in text
    assert judged(tmp_path, "zero.offload_optimizer=false", "workers.count=32").fits


def test_parameters_are_counted_without_being_made(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN_32B))
    config = configs.load(TrainConfig, [f"model={tmp_path}", "data=x"])
    shape = memory.shape_of(config)
    assert shape.parameters == pytest.approx(32.76e9, rel=0.001)
    adapters = memory.shape_of(
        configs.load(TrainConfig, [f"model={tmp_path}", "data=x", "lora={}"])
    )
    assert 0 < adapters.trainable < 0.01 * shape.parameters


QWEN_7B = QWEN_32B | {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
                      "num_attention_heads": 28, "num_key_value_heads": 4}  # fmt: skip


def test_adapters_of_a_7b_in_4_bits_fit_24_gb(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN_7B))
    preset = [str(ROOT / "conf/train/qlora.yaml"), f"model={tmp_path}", "revision="]

    def plan(*changed: str) -> memory.MemoryEstimate:
        return memory.estimate(configs.load(TrainConfig, [*preset, *changed]), "gpu", 16384)

    found = plan()
    assert found.fits, found.text()
    # 6.5 billion in the layers' matrices; both tables stay in bfloat16
    assert found.device["parameters"] / memory.GIB == pytest.approx(
        (6.53 * 0.516 + 1.09 * 2 + 0.08) * 1e9 / memory.GIB, rel=0.02
    )
    assert not plan("lora.bits=16").fits or plan("lora.bits=16").needed > found.needed + 8 * 2**30


def test_logits_whole_or_in_chunks(tmp_path: Path) -> None:
    chunked = judged(tmp_path).device["logits"]
    whole = judged(tmp_path, "compute.cross_entropy=full").device["logits"]
    assert whole > 4 * chunked
