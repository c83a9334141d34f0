"""A curation, as the paper's method section describes it (arXiv 2502.03387v3, section 3).

    problem pool -> filters, gold check, decontamination
    -> exact and near-duplicates                         <run>/pool/*.parquet
    -> answers by majority, for problems without one
    -> weak model, strong model, teachers                <store>/attempts/, <run>/decided/*.parquet
    -> what a model is asked about them                  <run>/annotations.parquet
    -> verified chains -> quality score -> selection     <run>/examples.parquet, ...

Finished steps are not repeated: the pool is kept while its settings stay the same, an attempt is
sampled once, and what follows from the attempts takes seconds.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from limo_ray import verify
from limo_ray.core import config as configs
from limo_ray.core.records import fingerprint
from limo_ray.curate import annotations, hub, majority, published, suspicious
from limo_ray.curate.agreement import labels_signature
from limo_ray.curate.annotate import annotate
from limo_ray.curate.chains import candidate_chains, score_chains
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.difficulty import kept_problems, sample_pool
from limo_ray.curate.outputs import Curation, RunResult, finished, publish
from limo_ray.curate.pool import build_pool, pool_key
from limo_ray.curate.select import select
from limo_ray.runs.heartbeat import Heartbeat
from limo_ray.storage.store import Store


def curate(config: CurateConfig, device: str) -> RunResult:
    """Runs the whole curation; the same call resumes one that was cut off.

    Args:
        config: a checked config.
        device: gpu or cpu, for engines whose device is auto.

    Raises:
        ValueError: a source or model that cannot be had.
        EngineError: an engine that does not start or keeps dying.
        VerificationError: too many verdicts are TIMEOUT or ERROR to trust a selection.
        PublishError: the hub did not take a finished run that was to be published.
    """
    started = time.time()
    store = Store(config.store)
    run = store.within(f"runs/{config.name}")
    key = run_key(config, device)
    if result := finished(run, key):
        hub.upload(config.publish, store, config.name)
        return result

    seconds: dict[str, float] = {}
    with Heartbeat(run, "curate", config.name) as heartbeat:

        @contextmanager
        def phase(name: str) -> Iterator[None]:
            heartbeat.phase(name)
            begun = time.time()
            yield
            seconds[name] = seconds.get(name, 0) + time.time() - begun

        with phase("pool"):
            pool = build_pool(config, run)
        with phase("sampling"):
            majority.give_answers(pool, run, store, config, device)
            sampled = sample_pool(pool, run, store, config, device)
        with phase("selection"):
            problems = kept_problems(run, sampled.cutoffs)
            policy = config.difficulty.suspicious
            suspicions = [] if policy == "keep" else suspicious.find(run, sampled, store)
            if policy == "drop":
                dropped = {suspicion.problem_id for suspicion in suspicions}
                problems = [problem for problem in problems if problem.id not in dropped]
            chains = candidate_chains(problems, sampled.stages, store, config)
        with phase("annotation"):
            replies = annotate(config, problems, chains, sampled, run, store, device)
            annotations.add_to_problems(problems, replies.rows)
            annotations.rate(chains, replies.rows, config.annotate)
        with phase("selection"):
            unwanted = replies.dropped(config.annotate)
            problems = [problem for problem in problems if problem.id not in unwanted]
            chains = score_chains(problems, chains, config)
            selected = select(chains, config.selection)
        curation = Curation(
            config=config, key=key, started=started, seconds=seconds, sampled=sampled,
            suspicions=suspicions, annotations=replies, problems=problems, chains=chains,
            selected=selected,
        )  # fmt: skip
        result = publish(curation, run, store)
        hub.upload(config.publish, store, config.name)
        return result


def run_key(config: CurateConfig, device: str) -> str:
    """What a finished run is recognised by: all that it is made of, not where it is published."""
    settings = configs.as_dict(config)
    del settings["publish"]
    data = [pool_key(config), published.fingerprints(config.engines)]
    data += [labels_signature(each) for each in config.annotate if each.labels]
    return fingerprint([settings, device, *data, verify.VERSION])
