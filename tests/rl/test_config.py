"""What a config of reinforcement learning refuses."""

from pathlib import Path
from typing import Any

import pytest

from limo_ray.core import config as configs
from limo_ray.rl.config import RLConfig
from limo_ray.rl.job import check_shared
from limo_ray.train.memory import GIB, MemoryEstimate
from tests.rl.rl_runs import overrides


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"sampling.top_p": 0.9}, "sampling.top_p: 0.9 must be 1"),
        ({"sampling.temperature": 0}, "sampling.temperature: 0"),
        ({"run": "store/runs/x"}, "run: give exactly one"),
        ({"choice.probe": 4}, r"choice.probe: 4 must be below rollouts.size \(4\)"),
        ({"choice.probe": 1}, "choice.probe: 1 rollout has no variance"),
        ({"rollouts.max_staleness": 2}, "rollouts.max_staleness: 2 must be between 0 and 1"),
        ({"loss.average": "mean"}, "loss.average: 'mean' is none of"),
        ({"loss.importance_cap": 0.5}, "loss.importance_cap: 0.5"),
        ({"sampling.max_tokens": 256}, "sampling.max_tokens: 256 leaves no room"),
        ({"compute.sequence_parallel": 2, "workers.count": 2}, "compute.sequence_parallel: 2"),
        ({"share_gpu": True, "rollouts.max_staleness": 1}, "rollouts.max_staleness: 1 must be 0"),
        ({"share_gpu": True, "workers.count": 2}, "workers.count: 2 must be 1 with share_gpu"),
        ({"zero.stage": 0, "compute.precision": "bfloat16"}, "zero.stage: 0 keeps no float32"),
    ],
)
def test_mistakes_are_one_line_that_names_the_key(
    tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    with pytest.raises(configs.ConfigError, match=told) as caught:
        configs.load(RLConfig, overrides(tmp_path, **changed))
    assert "\n" not in str(caught.value)


def test_the_policy_is_the_engines_model_in_the_workers_precision(tmp_path: Path) -> None:
    config = configs.load(RLConfig, overrides(tmp_path))
    engine = config.policy_engine("gpu")
    assert (engine.model, engine.dtype, engine.device) == (config.model, "float32", "cpu")


def test_what_only_changes_the_computing_does_not_change_the_course(tmp_path: Path) -> None:
    def course(**changed: Any) -> dict[str, Any]:
        return configs.load(RLConfig, overrides(tmp_path, **changed)).curve()

    assert course() == course(**{"zero.stage": 3, "pack_tokens": 1024, "sampler.flush_s": 1})
    assert course() != course(**{"loss.clip_high": 0.3})
    assert course() != course(**{"reward.format_reward": 0.2})


def test_an_engine_on_a_shared_gpu_can_sleep_and_must_fit_beside_the_worker(
    tmp_path: Path,
) -> None:
    engine = "{kind: vllm, gpu_memory: 0.6, max_model_len: 256}"
    changed = {"share_gpu": True, "engine": engine, "sampling.max_tokens": 60,
               "workers.gpu_gib": 80}  # fmt: skip
    config = configs.load(RLConfig, overrides(tmp_path, **changed))
    assert config.policy_engine("gpu").extra == {"enable_sleep_mode": True}
    assert config.policy_engine("cpu").extra == {}
    needs = {"parameters": 4.0 * GIB, "optimizer states": 24.0 * GIB, "logits": 40.0 * GIB}
    estimate = MemoryEstimate(device=needs, host={}, device_room=80 * GIB, host_room=0,
                              on_cpu=False, advice=[])  # fmt: skip
    assert "48.0 GiB for the engine, 28.0 for the worker" in check_shared(config, estimate)
    config.engine.gpu_memory = 0.7
    with pytest.raises(ValueError, match=r"engine.gpu_memory: 0.7 of 80 GiB .* at most 0.65"):
        check_shared(config, estimate)
