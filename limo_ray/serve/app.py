"""The Serve application: an ingress before replicas of the engine.

    serve run limo_ray.serve.app:build_app preset=conf/serve/laptop.yaml model=store/models/laptop

Arguments are those of jobs/serve.py: `preset`, and config keys like `engine.max_num_seqs=8`.
"""

import json
from typing import Any

import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, RequestRouterConfig

from limo_ray.core import config as configs
from limo_ray.engines.base import ray_options
from limo_ray.serve.config import ServeConfig
from limo_ray.serve.ingress import Ingress
from limo_ray.serve.replica import EngineReplica

QUIET = {"log_level": "WARNING", "enable_access_log": False}  # the ingress has a log of its own
PREFIX_ROUTER = "ray.serve.llm.request_router:PrefixCacheAffinityRouter"


def build_app(args: dict[str, Any]) -> serve.Application:
    """The application that `serve run`, `serve deploy` and KubeRay start.

    Args:
        args: `preset`, a path or several separated by commas; all else are keys of the config.

    Raises:
        ConfigError: in one line.
    """
    presets = [path for path in str(args.get("preset", "")).split(",") if path]
    keys = [
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in args.items()
        if key != "preset"
    ]
    config = configs.load(ServeConfig, [*presets, *keys])
    gpus = ray.is_initialized() and ray.cluster_resources().get("GPU", 0) > 0
    return application(config, "gpu" if gpus else "cpu")


def application(config: ServeConfig, device: str) -> serve.Application:
    """The application of a config, its engines on `device` (gpu or cpu) unless it says another."""
    deploy: Any = serve.deployment
    return deploy(
        serve.ingress()(Ingress),
        name="Ingress",
        ray_actor_options={"num_cpus": 0.1},
        max_ongoing_requests=100_000,  # admission bounds them
        graceful_shutdown_timeout_s=config.drain_s,
        graceful_shutdown_wait_loop_s=0.5,
        logging_config=QUIET,
    ).bind(config, engines(config, device))


def engines(config: ServeConfig, device: str) -> serve.Application:
    """The replicas alone, for an ingress in another process (limo_ray.serve.http_server)."""
    if config.engine.device == "auto":
        config.engine.device = device
    engine = config.engine
    options: dict[str, Any] = {}
    if engine.bundles:
        options["placement_group_bundles"] = [dict(bundle) for bundle in engine.bundles]
        options["placement_group_strategy"] = engine.bundle_strategy
        if engine.labels:
            selectors = [dict(engine.labels)] * len(engine.bundles)
            options["placement_group_bundle_label_selector"] = selectors
    if engine.max_replicas > engine.min_replicas:
        options["autoscaling_config"] = AutoscalingConfig(
            min_replicas=engine.min_replicas, max_replicas=engine.max_replicas,
            target_ongoing_requests=max(1.0, config.scale_at * config.slots),
        )  # fmt: skip
    else:
        options["num_replicas"] = engine.min_replicas
    if config.routing == "prefix" and engine.max_replicas > 1:
        options["request_router_config"] = RequestRouterConfig(
            request_router_class=PREFIX_ROUTER,  # type: ignore[arg-type]
            request_router_kwargs={"imbalanced_threshold": config.slots / 2, "do_eviction": True},
        )
    deploy: Any = serve.deployment
    return deploy(
        EngineReplica,
        name="Replica",
        ray_actor_options=ray_options(engine),
        # Admission bounds what runs, the engine queues what it cannot decode yet: a request that no
        # replica accepts finds no live one.
        max_ongoing_requests=config.gate.max_concurrent + config.slots,
        graceful_shutdown_timeout_s=config.drain_s,
        graceful_shutdown_wait_loop_s=0.5,
        logging_config=QUIET,
        health_check_period_s=2,
        health_check_timeout_s=60,
        max_constructor_retry_count=config.starts,
        **options,
    ).bind(config)
