"""How many problems a sampler takes at a time. Pure."""

import math
from collections.abc import Sequence

from limo_ray.sampling.stop_rule import StopRule

BLOCKS_AHEAD = 500  # that wait between two steps of a pipeline, where each is a batch of problems


def portions(
    slots: int, fewest: int, most: int, total: int = 0, rules: Sequence[StopRule] = ()
) -> tuple[int, int]:
    """Problems in a batch, and batches that one sampler has at a time.

    Under a rule such as "not solved in 4" a problem has one draw at a time, and of a batch some
    problems end long before the last one: a sampler needs many problems for each of its slots. (In
    a simulation with log-normal lengths 39 % of 256 slots were idle with 3 problems for each, none
    with 8.) Large batches keep what Ray remembers of each task small. Where all `total` problems
    are fewer than that, no replica takes more than its share; and where replicas are still to come,
    none takes more than it needs, so that there is something left for them: two for each slot, or
    what fills the slots at once, if all draws are needed anyway.

    Args:
        slots: sequences that one engine decodes at once.
        fewest, most: replicas of the engine.
        total: problems, if it is known.
        rules: of the stages.
    """
    batch = max(1, min(64, slots // 4))
    if total:
        batch = min(batch, math.ceil(total / (4 * most)))
    in_flight = max(4, math.ceil(8 * slots / batch))
    if total:
        share = total / fewest
        if most > fewest:
            at_once = min((0.5 if rule.early else rule.budget for rule in rules), default=0.5)
            share = min(share, max(total / most, slots / at_once))
        in_flight = min(in_flight, max(1, math.ceil(share / batch)))
    return batch, in_flight
