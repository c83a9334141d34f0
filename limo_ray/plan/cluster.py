"""Where engines go on a cluster, how many replicas of each it holds, and what its nodes cost."""

from dataclasses import dataclass

from limo_ray.engines.base import EngineConfig
from limo_ray.plan.config import ClusterConfig, NodeConfig
from limo_ray.sampling.passes import Pass


@dataclass(slots=True)
class Place:
    """A pass's share of a cluster."""

    engine: str
    kind: str
    node: NodeConfig
    replicas: int
    per_node: float
    """Replicas on each node; below 1 for one that spans nodes."""
    wanted: int
    """Replicas that the engine may grow to (max_replicas)."""

    @property
    def nodes(self) -> float:
        """Nodes that the replicas fill; engines may share one."""
        return self.replicas / self.per_node


def device(cluster: ClusterConfig) -> str:
    """What engines whose device is auto run on."""
    return "gpu" if any(node.gpus and node.count for node in cluster.nodes.values()) else "cpu"


def capacity(engine: EngineConfig, node: NodeConfig) -> float:
    """Replicas that one node holds: 0 where none fits, below 1 for one that spans nodes."""
    if engine.bundles:
        largest = max(bundle.get("GPU", 0) for bundle in engine.bundles)
        if largest > node.gpus or not largest:
            return 0
        own = engine.bundle_strategy == "STRICT_SPREAD"
        together = 1 if own else int(node.gpus // largest)
        return together / len(engine.bundles)
    if engine.device == "gpu":
        return node.gpus // (engine.tensor_parallel * engine.pipeline_parallel)
    return node.cpus // engine.num_cpus if engine.num_cpus else float(node.count)


def place(passes: list[Pass], cluster: ClusterConfig) -> list[Place]:
    """A kind of node for each pass's engine, then replicas: min_replicas each, in the order of the
    passes, then one each in turn up to max_replicas, while there is room.

    Raises ValueError for an engine that fits nowhere.
    """
    free = {kind: float(node.count) for kind, node in cluster.nodes.items()}
    places: list[Place] = []
    for one in passes:
        name, engine = one.engine_name, one.engine
        kind = cluster.place.get(name) or _kind(engine, cluster, free)
        per_node = capacity(engine, cluster.nodes[kind]) if kind else 0
        if not per_node:
            raise ValueError(
                f"cluster.nodes: no node holds {needs(name, engine)} ({_told(cluster)})"
            )
        if free[kind] * per_node < engine.min_replicas - 1e-9:
            raise ValueError(
                f"cluster.nodes.{kind}: {cluster.nodes[kind].count} node(s) have no room for "
                f"{engine.min_replicas} replica(s) of {needs(name, engine)} beside the others"
            )
        free[kind] -= engine.min_replicas / per_node
        node = cluster.nodes[kind]
        places.append(Place(name, kind, node, engine.min_replicas, per_node, engine.max_replicas))
    grown = True
    while grown:
        grown = False
        for share in places:
            if share.replicas < share.wanted and free[share.kind] * share.per_node >= 1 - 1e-9:
                free[share.kind] -= 1 / share.per_node
                share.replicas += 1
                grown = True
    return places


def _kind(engine: EngineConfig, cluster: ClusterConfig, free: dict[str, float]) -> str:
    """The kind with room that costs least per replica; for engines that span nodes, which lose
    most when one goes, the one that is preempted least. Empty if there is none, room or not."""
    fit = []
    for kind, node in cluster.nodes.items():
        held = capacity(engine, node)
        if held and node.count:
            full = free[kind] * held < engine.min_replicas - 1e-9
            often = node.preemptions_per_hour if engine.bundles else 0.0
            fit.append((full, often, node.price_per_hour / held, kind))
    return min(fit)[3] if fit else ""


def needs(name: str, engine: EngineConfig) -> str:
    if engine.bundles:
        each = [f"{bundle.get('GPU', 0):g}" for bundle in engine.bundles]
        return f"engine {name}'s bundles of {', '.join(each)} GPU(s)"
    if engine.device == "gpu":
        return f"engine {name}'s {engine.tensor_parallel * engine.pipeline_parallel} GPU(s)"
    return f"engine {name}'s {engine.num_cpus:g} CPU(s)"


def _told(cluster: ClusterConfig) -> str:
    each = [
        f"{kind}: {node.count} x {node.gpus} GPU(s), {node.cpus:g} CPU(s)"
        for kind, node in cluster.nodes.items()
        if node.count
    ]
    return "; ".join(each) or "none"


def pool_cores(cluster: ClusterConfig) -> float:
    """Cores for the pool's steps: those of nodes without GPUs, or of all if there are none."""
    nodes = [node for node in cluster.nodes.values() if node.count]
    own = [node for node in nodes if not node.gpus] or nodes
    return max(1.0, sum(node.cpus * node.count for node in own))


def cost(
    cluster: ClusterConfig, places: list[Place], spans: list[float], pool_s: float, total_s: float
) -> tuple[list[float], float, float]:
    """Money for each pass, for the pool's steps, and for standing nodes.

    Nodes that are there all the time (start_s=0) cost as long as the job takes, others while they
    are used.

    Args:
        spans: of each pass, the seconds from asking for its nodes until it has no more work.
    """
    own = [
        one.nodes * one.node.price_per_hour * span / 3600 if one.node.start_s else 0.0
        for one, span in zip(places, spans, strict=True)
    ]
    pool = standing = 0.0
    for node in cluster.nodes.values():
        hourly = node.count * node.price_per_hour
        if not node.start_s:
            standing += hourly * total_s / 3600
        elif not node.gpus:
            pool += hourly * (pool_s + node.start_s) / 3600
    return own, pool, standing
