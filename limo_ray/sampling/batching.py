"""How many problems a sampler takes at a time. Pure."""

import math
from collections.abc import Sequence

from limo_ray.sampling.stop_rule import StopRule

MAX_QUEUED_BLOCKS = 500  # between two operators of a pipeline; each is a batch of problems


def batch_sizes(
    slots: int, min_replicas: int, max_replicas: int, total: int = 0, rules: Sequence[StopRule] = ()
) -> tuple[int, int]:
    """Problems in a batch, and batches that one sampler holds at a time.

    Under a rule such as "not solved in 4" a problem has one attempt at a time, and some problems of
    a batch end long before the last one: a sampler needs many problems for each of its slots. (In
    a simulation with log-normal lengths 39 % of 256 slots were idle with 3 problems for each, none
    with 8.) Large batches keep Ray's records of each task few. With fewer problems in `total`, no
    replica takes more than its share. While replicas may still be added, none takes more than it
    needs, so that some problems are left for them: two for each slot, or what fills the slots at
    once if all attempts are needed anyway.

    Args:
        slots: sequences that one engine decodes at once.
        min_replicas, max_replicas: of the engine.
        total: number of problems; 0 if it is not known.
        rules: of the stages.
    """
    batch = max(1, min(64, slots // 4))
    if total:
        batch = min(batch, math.ceil(total / (4 * max_replicas)))
    in_flight = max(4, math.ceil(8 * slots / batch))
    if total:
        share = total / min_replicas
        if max_replicas > min_replicas:
            at_once = min((0.5 if rule.early else rule.budget for rule in rules), default=0.5)
            share = min(share, max(total / max_replicas, slots / at_once))
        in_flight = min(in_flight, max(1, math.ceil(share / batch)))
    return batch, in_flight
