"""Passes: neighbouring stages of attempts that share one engine."""

import logging
import os
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import ray

from limo_ray.engines.base import EngineConfig, ray_options
from limo_ray.sampling.stages import Stage

log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class Pass:
    """Stages that share an engine."""

    engine_name: str
    engine: EngineConfig
    stages: list[Stage]


def resolve(engine: EngineConfig, device: str) -> EngineConfig:
    """The engine with `auto` replaced by the device that the cluster has, if it needs one."""
    if engine.kind == "published":
        device = "cpu"
    return replace(engine, device=device if engine.device == "auto" else engine.device)


def check_engines(passes: list[Pass], device: str, *, together: bool = False) -> None:
    """What `check_fits` refuses on this machine; on a cluster, which may grow, a warning.

    Args:
        device: gpu where the Ray cluster has one, else cpu.
        together: whether all engines run at once.
    """
    if not passes:
        return
    if not os.environ.get("RAY_ADDRESS"):
        there = ray.cluster_resources()  # type: ignore[no-untyped-call]
        check_fits(passes, there, together=together)
    else:
        warn_missing_gpus(passes, device)


def check_fits(passes: list[Pass], there: dict[str, float], *, together: bool) -> None:
    """Refuses engines for which Ray Data would wait without end. For a machine that cannot grow.

    Args:
        there: `ray.cluster_resources()`.
        together: whether all engines run at once.

    Raises:
        ValueError: naming the engines, what they need, and what is there.
    """
    for group in [passes] if together else [[each] for each in passes]:
        needed: dict[str, float] = defaultdict(float)
        for each in group:
            options = ray_options(each.engine)
            asks = {"CPU": options["num_cpus"], "GPU": options.get("num_gpus", 0)}
            for bundle in each.engine.bundles or [asks | options.get("resources", {})]:
                for name, count in bundle.items():
                    needed[name] += count * each.engine.min_replicas
        for name, count in needed.items():
            if count > there.get(name, 0):
                engines = ", ".join(each.engine_name for each in group)
                hint = ": set difficulty.overlap=false, for one after the other"
                raise ValueError(
                    f"engines {engines}: at once they need {count:g} {name}, "
                    f"this machine has {there.get(name, 0):g}{hint * (len(group) > 1)}"
                )


def engine_seconds(
    passes: list[Pass], workers: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Replicas and their seconds since the engines were up, by engine name: see Sampled.engines."""
    found = {}
    for each in passes:
        own = [w["seconds"] for w in workers.values() if each.stages[0].name in w["stages"]]
        busy = [seconds for seconds in own if seconds]
        found[each.engine_name] = {"replicas": len(busy), "seconds": round(sum(busy), 1)}
    return found


def warn_missing_gpus(passes: list[Pass], device: str) -> None:
    """Warns that engines need GPUs while the cluster has none yet."""
    names = [each.engine_name for each in passes if each.engine.device == "gpu"]
    if names and device == "cpu":
        log.warning(
            "the cluster has no GPU now, and the engines %s ask for some: they start when it grows",
            ", ".join(dict.fromkeys(names)),
        )
