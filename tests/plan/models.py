"""Small clusters for the tests."""

from limo_ray.engines.base import SamplingConfig
from limo_ray.plan.assumptions import AssumedStage, Speed, StageTruth
from limo_ray.plan.config import SpeedConfig, StageAssumption
from limo_ray.plan.replica import PassModel
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.stop_rule import StopRule

WEAK = StageAssumption(alpha=0.6, beta=0.4, tokens_correct=550, tokens_other=900, spread=0.5)
STRONG = StageAssumption(alpha=0.5, beta=0.7, tokens_correct=3000, tokens_other=6000)
FAST = SpeedConfig(one=150, full=6000, at=64, start_s=100)
SLOW = SpeedConfig(one=65, full=3000, at=64, start_s=200)


def stage(name: str, rule: StopRule, gate: bool = True) -> Stage:
    return Stage(name=name, rule=rule, sampling=SamplingConfig(), fingerprint="", gate=gate)


def truth(assumed: StageAssumption, longest: int = 16_000) -> StageTruth:
    return AssumedStage(assumed, longest, 1, 1).truth(None)


def one_pass(
    rule: StopRule, assumed: StageAssumption = STRONG, speed: SpeedConfig = SLOW, *,
    name: str = "strong", sequences: int = 32, gate: bool = True, **more,
) -> PassModel:  # fmt: skip
    return PassModel(
        stages=[stage(name, rule, gate)], truths=[truth(assumed)],
        speed=Speed.of(speed, sequences), sequences=sequences, **more,
    )  # fmt: skip


def curation(replicas: tuple[int, int, int] = (2, 4, 1), **more) -> list[PassModel]:
    """Weak, strong and teacher, each on an engine of its own."""
    weak = StopRule(budget=4, keep_min=0, keep_max=0)
    strong = StopRule(budget=16, keep_min=1, keep_max=3)
    teacher = StopRule(budget=2, keep_min=0, keep_max=2, early=False)
    return [
        one_pass(weak, WEAK, FAST, name="weak", replicas=replicas[0], **more),
        one_pass(strong, replicas=replicas[1], **more),
        one_pass(teacher, name="teacher", gate=False, replicas=replicas[2], **more),
    ]
