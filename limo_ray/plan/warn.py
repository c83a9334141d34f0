"""What somebody who reads a plan should be told."""

from limo_ray.plan.basis import Basis
from limo_ray.plan.counts import Future
from limo_ray.plan.findings import figure
from limo_ray.plan.flow import full, kept_share, per_problem
from limo_ray.plan.replica import PassModel

IDLE = 0.7  # share of busy slots below which an engine is worth a word
LOST = 0.03  # share of time lost to preemptions that is worth one


def warnings(base: Basis, central: list[PassModel], futures: list[Future]) -> list[str]:
    """Lines for people, the gravest first."""
    return [
        *_target(base, central, futures),
        *_beyond(base, futures),
        *_engines(base, central, futures),
        *_verifier(base, central),
        *_cluster(base),
    ]


def _target(base: Basis, central: list[PassModel], futures: list[Future]) -> list[str]:
    wanted = base.wanted()
    reached = sum(future.outcome.reached for future in futures) / len(futures)
    if not wanted:
        return []
    told = []
    if reached < 0.95:
        share = 1.0
        for model in central:
            share *= kept_share(model)
        live = figure([future.live for future in futures], 0.9).median
        told.append(
            f"the target of {wanted:,} is reached in {reached:.0%} of the futures only: of "
            f"{live:,.0f} problems {share:.2%} are kept, some {live * share:,.0f}; more rows, a "
            "wider rule or a smaller difficulty.stop_after_kept are needed"
        )
    several = len(base.passes) > 1
    if several and not base.config.difficulty.overlap:
        first = base.passes[0].engine_name
        told.append(
            f"difficulty.overlap is off: engine {first} works through the whole pool before the "
            "next one starts, whatever the target"
        )
    return told


def _beyond(base: Basis, futures: list[Future]) -> list[str]:
    """Where engines run ahead of the last keeper."""
    told = []
    for place, one in enumerate(base.passes):
        counts = [f.outcome.passes[place] for f in futures if f.outcome.reached]
        tokens = sum(stage.tokens for count in counts for stage in count.stages)
        within = sum(stage.within_tokens for count in counts for stage in count.stages)
        if tokens and within < 0.7 * tokens:
            last = place == len(base.passes) - 1
            why = (
                "it holds many problems at once: fewer replicas, or a smaller max_num_seqs"
                if last
                else "it may run some ten thousand problems ahead of the engine after it: fewer "
                "replicas of it"
            )
            told.append(
                f"engine {one.engine_name}: {1 - within / tokens:.0%} of its tokens go to problems "
                f"past the last keeper; {why} would draw less in vain (the log keeps it)"
            )
    return told


def _engines(base: Basis, central: list[PassModel], futures: list[Future]) -> list[str]:
    told = []
    for place, one in enumerate(base.passes):
        share = base.places[place]
        counts = [future.outcome.passes[place] for future in futures]
        up = sum(count.up for count in counts) * one.engine.max_num_seqs
        busy = sum(count.decoding for count in counts) / max(1e-9, up)
        problems = counts[len(counts) // 2].stages[0].problems
        held = central[place].batch * central[place].batches
        if busy < IDLE:
            tail = problems / share.replicas <= held
            why = "waits for its first and last problems"
            if place:
                why = f"waits for what engine {base.passes[place - 1].engine_name} lets through"
            elif tail:
                why = f"has {problems / share.replicas:,.0f} problems a replica: the tail dominates"
            less = "; fewer replicas would do" if share.replicas > one.engine.min_replicas else ""
            told.append(
                f"engine {one.engine_name} idles {1 - busy:.0%} of its time: it {why}{less}"
            )
        model = central[place]
        gone = sum(count.preemptions for count in counts) * model.together
        away = gone * model.begins_s
        lost = sum(count.lost_tokens for count in counts) / full(model)
        spent = share.replicas * sum(future.spans[place] for future in futures)
        if away + lost > LOST * spent:
            told.append(
                f"engine {one.engine_name}: preemptions of kind {share.kind} cost "
                f"{min(1, (away + lost) / spent):.0%} of its time, while it starts again"
            )
    return told


def _verifier(base: Basis, central: list[PassModel]) -> list[str]:
    told = []
    can = base.config.assume.checks_per_s * base.config.sampler.verify_workers
    for one, model in zip(base.passes, central, strict=True):
        each = per_problem(model)
        attempts = sum(stage.reach * stage.attempts for stage in each)
        tokens = sum(stage.reach * stage.tokens for stage in each)
        asked = full(model) * attempts / tokens
        if asked > can:
            told.append(
                f"engine {one.engine_name} ends {asked:,.0f} attempts a second and replica, "
                f"{base.config.sampler.verify_workers} verifying process(es) check {can:,.0f}: "
                "raise sampler.verify_workers"
            )
    return told


def _cluster(base: Basis) -> list[str]:
    used = {share.kind for share in base.places}
    return [
        f"cluster.nodes.{kind}: {node.count} node(s) with GPUs that no engine is placed on"
        for kind, node in base.config.cluster.nodes.items()
        if node.gpus and node.count and kind not in used
    ]
