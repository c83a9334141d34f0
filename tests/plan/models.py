"""Small clusters for the tests."""

import numpy as np

from limo_ray.engines.base import EngineConfig, SamplingConfig
from limo_ray.plan.assumptions import AssumedStage, EngineSpeed
from limo_ray.plan.cluster import Allocation
from limo_ray.plan.config import NodeConfig, SpeedConfig, StageAssumption
from limo_ray.plan.forecast import PassForecast
from limo_ray.sampling.config import SamplerConfig
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.stop_rule import StopRule

WEAK = StageAssumption(alpha=0.6, beta=0.4, tokens_correct=550, tokens_other=900, spread=0.5)
STRONG = StageAssumption(alpha=0.5, beta=0.7, tokens_correct=3000, tokens_other=6000)
FAST = SpeedConfig(one=150, full=6000, at=64, start_s=100)
SLOW = SpeedConfig(one=65, full=3000, at=64, start_s=200)
TRIALS = 100


def stage(name: str, rule: StopRule, gate: bool = True, longest: int = 16_000) -> Stage:
    sampling = SamplingConfig(max_tokens=longest)
    return Stage(name=name, rule=rule, sampling=sampling, fingerprint="", gate=gate)


def model(
    stages: list[Stage], assumed: list[StageAssumption], speed: SpeedConfig, *,
    sequences: int = 32, replicas: int = 1, most: int = 1, per_node: float = 1.0, total: int = 0,
    start_s: float = 0.0, preemptions: float = 0.0, **sampler,
) -> PassForecast:  # fmt: skip
    """A pass in which nothing is uncertain: all trials are alike."""
    engine = EngineConfig(model="m", max_num_seqs=sequences, min_replicas=1, max_replicas=most)
    node = NodeConfig(start_s=start_s, preemptions_per_hour=preemptions)
    rng = np.random.default_rng(0)
    samples = [
        AssumedStage(one, stage.sampling.max_tokens, 1, 1).sample(rng, TRIALS)
        for one, stage in zip(assumed, stages, strict=True)
    ]
    return PassForecast(
        stages, samples, Allocation("e", engine, "n", node, per_node, replicas),
        EngineSpeed.of(speed, sequences).times(np.ones(TRIALS)),
        SamplerConfig(**{"speculative_share": 0.0, **sampler}), total, rng,
    )  # fmt: skip


def one_pass(
    rule: StopRule, assumed: StageAssumption = STRONG, speed: SpeedConfig = SLOW, *,
    gate: bool = True, **more,
) -> PassForecast:  # fmt: skip
    return model([stage("strong", rule, gate)], [assumed], speed, **more)


def curation(replicas: tuple[int, int, int] = (2, 4, 1), **more) -> list[PassForecast]:
    """Weak, strong and teacher, each on an engine of its own."""
    weak = StopRule(budget=4, keep_min=0, keep_max=0)
    strong = StopRule(budget=16, keep_min=1, keep_max=3)
    teacher = StopRule(budget=2, keep_min=0, keep_max=2, early=False)
    return [
        one_pass(weak, WEAK, FAST, replicas=replicas[0], **more),
        one_pass(strong, replicas=replicas[1], **more),
        one_pass(teacher, gate=False, replicas=replicas[2], **more),
    ]


def laptop(**more) -> list[PassForecast]:
    """Three stages on one engine, as in conf/curate/laptop.yaml and conf/plan/laptop.yaml."""
    weak = StopRule(budget=1, keep_min=0, keep_max=0)
    strong = StopRule(budget=4, keep_min=1, keep_max=2)
    teacher = StopRule(budget=2, keep_min=0, keep_max=2, early=False)
    stages = [
        stage("weak", weak, longest=96), stage("strong", strong, longest=128),
        stage("teacher", teacher, gate=False, longest=128),
    ]  # fmt: skip
    assumed = [
        StageAssumption(alpha=0.15, beta=0.95, tokens_correct=66, tokens_other=80, spread=0.4),
        StageAssumption(alpha=0.6, beta=5.9, tokens_correct=42, tokens_other=72),
        StageAssumption(alpha=1, beta=2, tokens_correct=50, tokens_other=76),
    ]
    settings = {"sequences": 64, "flush_s": 2, "speculative_share": 0.02, **more}
    return [model(stages, assumed, SpeedConfig(one=15, full=385, start_s=26), **settings)]
