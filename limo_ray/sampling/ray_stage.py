"""Sampling as a stage of a Ray Data pipeline: problems go in, decided problems come out.

Inside, one `Sampler` actor per engine replica shares the engine's slots among hundreds of problems,
verifies each completion, and writes it to the attempt log before the problem leaves. What the log
already holds is never sampled again: the same command resumes, whatever was killed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import ray
from ray.data import ActorPoolStrategy, Dataset
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

from limo_ray.attempts.log import AttemptLog
from limo_ray.attempts.partials import Partials
from limo_ray.core.records import fingerprint
from limo_ray.engines import base as engines
from limo_ray.engines.base import EngineConfig
from limo_ray.sampling import ray_data_settings
from limo_ray.sampling.batching import batch_sizes
from limo_ray.sampling.config import SamplerConfig
from limo_ray.sampling.coordinator import Coordinator
from limo_ray.sampling.sampler import Sampler
from limo_ray.sampling.stages import Stage
from limo_ray.storage.store import Store


def start_coordinator(dollars_before: float = 0.0) -> Any:
    """A `Coordinator` actor on the driver's own node: it is lost when the driver is.

    `dollars_before` is what the logged attempts had cost when the job began.

    It ends when nobody has its handle any more: ended by `ray.kill`, it would leave samplers whose
    last reports fail.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    start = ray.remote(Coordinator).options(scheduling_strategy=here, **options).remote
    # Once a process, Ray logs an error when an actor that may be restarted has a reference among
    # its arguments: Ray could not restart it if the driver were gone. That is true of every engine
    # that Ray Data starts, and does no harm: without the driver there is no job. So the first such
    # actor is this one, with an argument that nobody reads, started while stderr is off.
    with _without_stderr():
        coordinator: Any = start([ray.put(None)])
    ray.get(coordinator.set_dollars_before.remote(dollars_before))
    return coordinator


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Discards what this process writes to file descriptor 2, from C++ too."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def sample(
    problems: Dataset,
    engine: EngineConfig,
    stages: list[Stage],
    store: Store,
    *,
    system: str,
    coordinator: Any,
    config: SamplerConfig,
    group_by: str = "",
    total: int = 0,
) -> Dataset:
    """Makes attempts at each problem until every stage's rule has decided it.

    Args:
        problems: rows of SAMPLED; those that are not alive pass through.
        engine: one pool of replicas; `device` is resolved (gpu or cpu), not auto.
        stages: passed in turn by each problem, all on this engine.
        store: holds the attempt log.
        system: the system prompt.
        coordinator: handle of a `Coordinator` actor.
        group_by: column whose values are the groups that `Coordinator.stop` names; "" for none.
        total: number of problems, if it is known: few of them are spread over all replicas.

    Returns:
        The rows with `alive` and `outcomes` brought up to date, in any order. Problems that the
        coordinator stopped are left out. Nothing runs before the Dataset is consumed.
    """
    if engine.kind == "api":  # it has been patient before it raises: a new one would be no wiser
        share = 0.0 if engine.api.paid else config.speculative_share
        config = replace(config, max_engine_deaths=0, speculative_share=share)
        if engine.api.batch.requests:
            engine = _with_batch_folder(engine, store)
    _offer_indexes(stages, store, coordinator)
    rules = [stage.rule for stage in stages]
    batch, in_flight = batch_sizes(
        engine.max_num_seqs, engine.min_replicas, engine.max_replicas, total, rules
    )
    blocks = ray_data_settings.in_small_blocks(problems).repartition(
        target_num_rows_per_block=batch
    )
    return blocks.map_batches(
        Sampler,
        fn_constructor_kwargs={
            "engine": engine,
            "stages": stages,
            "store": store,
            "system": system,
            "coordinator": coordinator,
            "config": config,
            "group_by": group_by,
        },
        batch_size=batch,  # Ray Data wants a number wherever GPUs are asked for
        batch_format="pyarrow",
        compute=ActorPoolStrategy(
            min_size=engine.min_replicas,
            max_size=engine.max_replicas,
            max_tasks_in_flight_per_actor=in_flight,
            max_concurrent_calls_per_actor=in_flight,
            enable_true_multi_threading=True,
        ),
        **_ray_options(engine),
    )


def _with_batch_folder(engine: EngineConfig, store: Store) -> EngineConfig:
    """The engine of an API, told where the batches of its model are noted."""
    folder = store.within(f"batches/{fingerprint(engines.identity(engine))}").uri
    batch = replace(engine.api.batch, folder=folder)
    return replace(engine, api=replace(engine.api, batch=batch))


def _offer_indexes(stages: list[Stage], store: Store, coordinator: Any) -> None:
    """Reads the logs that the coordinator has no index of, and deletes partials that are done."""
    for stage in stages:
        offered = ray.get(coordinator.index.remote(stage.fingerprint))
        if not offered:
            offered = [ray.put(AttemptLog(store, stage.fingerprint).read_index())]
            ray.get(coordinator.offer_index.remote(stage.fingerprint, offered))
        Partials(store, stage.fingerprint).delete_used(ray.get(offered[0]))


def _ray_options(engine: EngineConfig) -> dict[str, Any]:
    """What each replica asks of Ray, a placement group of its own included."""
    options = engines.ray_options(engine)
    options["memory"] = 0  # else Ray Data asks for the output's size, of nodes yet to come
    if engine.bundles:

        def own_group() -> dict[str, Any]:
            group = placement_group(
                engine.bundles,
                strategy=engine.bundle_strategy,
                bundle_label_selector=[engine.labels] * len(engine.bundles),
            )
            return {
                "scheduling_strategy": PlacementGroupSchedulingStrategy(
                    placement_group=group, placement_group_capture_child_tasks=True
                )
            }

        options["ray_remote_args_fn"] = own_group
    return options
