"""What a training config refuses, DeepSpeed's config, the learning rate, when to stop."""

from pathlib import Path

import pytest

from limo_ray.core import config
from limo_ray.train.config import OptimizerConfig, TrainConfig, WatchConfig
from limo_ray.train.deepspeed import deepspeed_config, learning_rate
from limo_ray.train.divergence import DivergenceMonitor

ROOT = Path(__file__).parent.parent.parent


def load(preset: str, *changed: str) -> TrainConfig:
    return config.load(TrainConfig, [str(ROOT / f"conf/train/{preset}.yaml"), *changed])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (["workers.count=65"], ["batch.examples", "64", "65 workers"]),
        (["batch.packing=false", "workers.count=7"], ["batch.examples", "multiple of 7"]),
        (["compute.sequence_parallel=3"], ["workers.count", "8", "(3)"]),
        (["rows.too_long=chop"], ["rows.too_long", "chop", "drop, cut, stop"]),
        (["batch.pack_tokens=100"], ["batch.pack_tokens", "100", "rows.max_tokens"]),
        (["zero.stage=2", "zero.offload_parameters=true"], ["zero.offload_parameters", "stage 2"]),
        (["zero.stage=0", "zero.offload_optimizer=false"], ["zero.stage", "bfloat16"]),
        (["checkpoint.best=true"], ["checkpoint.best", "rows.held_out"]),
        (["optimizer.lr=0"], ["optimizer.lr"]),
        (["loss=focal"], ["loss", "focal", "cross_entropy, dft"]),
        (["workers.fewest=9"], ["workers.fewest", "9", "8"]),
        (["workers.fewest=4", "compute.sequence_parallel=2"], ["workers.fewest", "got 2"]),
        (["scores.patience=1"], ["scores.evaluate", "none given"]),
        (["watch.trackers=[comet]"], ["watch.trackers", "comet"]),
        (["lora={bits: 4}"], ["zero.stage", "3", "lora.bits"]),
        (["lora={bits: 8}"], ["lora.bits", "8", "4 nor 16"]),
        (["compute.recompute=false", "compute.offload_activations=true"], ["recompute"]),
    ],
)
def test_what_cannot_be_is_told_early(changed: list[str], words: list[str]) -> None:
    with pytest.raises(config.ConfigError) as caught:
        load("limo", *changed)
    for word in words:
        assert word in str(caught.value)


def test_the_published_numbers() -> None:
    for preset, batch in (("limo", 64), ("limo_v1", 32)):
        made = load(preset)
        told = (made.zero.stage, made.compute.precision, made.batch.examples, made.rows.max_tokens)
        assert told == (3, "bfloat16", batch, 16384)
        rate = made.optimizer
        assert (rate.lr, rate.schedule, rate.warmup, rate.epochs) == (5e-6, "cosine", 0, 15)
    made = load("s1")
    rate = made.optimizer
    assert (rate.lr, rate.warmup, rate.epochs, made.batch.examples) == (1e-5, 0.05, 5, 16)
    assert (rate.beta1, rate.beta2, rate.weight_decay) == (0.9, 0.95, 1e-4)


def test_what_deepspeed_is_told() -> None:
    made = deepspeed_config(load("limo"), "gpu")
    zero = made["zero_optimization"]
    assert (zero["stage"], zero["offload_optimizer"]["device"]) == (3, "cpu")
    assert made["bf16"]["enabled"] and made["gradient_clipping"] == 1.0
    assert "bf16" not in deepspeed_config(load("limo", "compute.precision=float32"), "cpu")


def test_the_learning_rate() -> None:
    cosine = OptimizerConfig(lr=1.0, schedule="cosine", warmup=0.1, min_lr=0.2)
    rates = [learning_rate(cosine, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == 1.0 and rates[10] == 1.0
    assert rates[55] == pytest.approx(0.6) and rates[99] == pytest.approx(0.2, abs=1e-3)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    linear = OptimizerConfig(lr=1.0, schedule="linear")
    assert learning_rate(linear, 25, 100) == 0.75
    constant = OptimizerConfig(lr=1.0, schedule="constant", min_lr=0.1)
    assert learning_rate(constant, 99, 100) == 1.0


def test_a_spike_that_heals_goes_on_and_one_that_does_not_stops() -> None:
    settings = WatchConfig(spike=2, window=5, patience=3)
    monitor = DivergenceMonitor(settings, [1.0] * 5)
    assert not any(monitor.reason_to_stop(loss, 1.0) for loss in (3.0, 3.0, 1.1, 3.0, 3.0))
    assert not monitor.sound
    assert "above 2 x 1 " in monitor.reason_to_stop(3.0, 1.0)
    assert "loss is nan" in DivergenceMonitor(settings, []).reason_to_stop(float("nan"), 1.0)
    assert "gradient norm is inf" in DivergenceMonitor(settings, []).reason_to_stop(
        1.0, float("inf")
    )


def test_a_resumed_watch_remembers() -> None:
    settings = WatchConfig(spike=2, window=5, patience=1)
    assert DivergenceMonitor(settings, [1.0] * 5).reason_to_stop(2.5, 1.0)
    assert not DivergenceMonitor(settings, [1.0] * 4).reason_to_stop(2.5, 1.0)
