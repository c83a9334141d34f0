"""Passes: stages of attempts that share one engine, and what the engine asks of the cluster."""

import logging
from dataclasses import dataclass
from typing import Any

from limo_ray.engines.base import EngineConfig
from limo_ray.sampling.stages import Stage

log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class Pass:
    """Stages that share an engine."""

    engine_name: str
    engine: EngineConfig
    stages: list[Stage]


def resolve(engine: EngineConfig, device: str) -> EngineConfig:
    """The engine with `auto` replaced by the device that the cluster has."""
    values = {name: getattr(engine, name) for name in engine.__dataclass_fields__}
    if engine.device == "auto":
        values["device"] = device
    return EngineConfig(**values)


def engine_seconds(
    planned: list[Pass], workers: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """What the samplers told of the time since their engines were up: see Sampled.engines."""
    found = {}
    for one in planned:
        own = [w["seconds"] for w in workers.values() if one.stages[0].name in w["stages"]]
        busy = [seconds for seconds in own if seconds]
        found[one.engine_name] = {"replicas": len(busy), "seconds": round(sum(busy), 1)}
    return found


def tell_of_missing_gpus(planned: list[Pass], device: str) -> None:
    """Warns that engines wait for a cluster to grow whose device is still the CPU."""
    names = [one.engine_name for one in planned if one.engine.device == "gpu"]
    if names and device == "cpu":
        log.warning(
            "the cluster has no GPU now, and the engines %s ask for some: they start when it grows",
            ", ".join(dict.fromkeys(names)),
        )
