"""On which nodes of a cluster engines run, and how many replicas of each it holds."""

from dataclasses import dataclass

from limo_ray.engines.base import EngineConfig
from limo_ray.plan.config import ClusterConfig, NodeConfig
from limo_ray.sampling.passes import Pass


@dataclass(slots=True)
class Allocation:
    """The nodes and replicas of one engine."""

    name: str
    engine: EngineConfig
    node_type: str
    node: NodeConfig
    per_node: float
    """Replicas on each node; below 1 for one that spans nodes."""
    replicas: int

    @property
    def nodes(self) -> float:
        """Nodes that the replicas fill; engines may share one."""
        return self.replicas / self.per_node


def device(cluster: ClusterConfig) -> str:
    """What engines whose device is auto run on."""
    return "gpu" if any(node.gpus and node.count for node in cluster.nodes.values()) else "cpu"


def gpus(engine: EngineConfig) -> float:
    """GPUs of one replica."""
    if engine.bundles:
        return sum(bundle.get("GPU", 0) for bundle in engine.bundles)
    return engine.tensor_parallel * engine.pipeline_parallel if engine.device == "gpu" else 0


def capacity(engine: EngineConfig, node: NodeConfig) -> float:
    """Replicas that one node holds: 0 where none fits, below 1 for one that spans nodes."""
    if not (needed := gpus(engine)):
        return node.cpus // engine.num_cpus if engine.num_cpus else float(node.count)
    if any(bundle.get("GPU", 0) > node.gpus for bundle in engine.bundles):
        return 0
    return node.gpus / needed if engine.bundles else node.gpus // needed


def allocate(passes: list[Pass], cluster: ClusterConfig) -> list[Allocation]:
    """A node type for each pass's engine, then replicas: min_replicas each, in the order of the
    passes, then one for the engine with the fewest, up to max_replicas, while there is room.

    The type is the one that costs least per replica; for engines that span nodes, which lose most
    when one goes, the one that is preempted least. Raises ValueError for an engine that fits
    nowhere.
    """
    free = {name: float(node.count) for name, node in cluster.nodes.items()}
    found: list[Allocation] = []
    for pass_ in passes:
        name, engine = pass_.engine_name, pass_.engine
        fit = []
        for kind, node in cluster.nodes.items():
            held = capacity(engine, node)
            if node.count and held and free[kind] * held >= engine.min_replicas - 1e-9:
                often = node.preemptions_per_hour if engine.bundles else 0.0
                fit.append((often, node.price_per_hour / held, kind))
        if not fit:
            bundles = [f"{bundle.get('GPU', 0):g}" for bundle in engine.bundles]
            needs = f"{', '.join(bundles) or gpus(engine)} GPU(s), {engine.num_cpus:g} CPU(s)"
            nodes = [
                f"{node.count} {kind} with {node.gpus} GPU(s), {node.cpus:g} CPU(s)"
                for kind, node in cluster.nodes.items()
            ]
            raise ValueError(
                f"cluster.nodes: no room for {engine.min_replicas} replica(s) of engine {name}, of "
                f"{needs} each, beside the engines before it ({'; '.join(nodes)})"
            )
        chosen = min(fit)[2]
        node = cluster.nodes[chosen]
        own = Allocation(name, engine, chosen, node, capacity(engine, node), engine.min_replicas)
        free[chosen] -= own.nodes
        found.append(own)
    while growing := [
        own
        for own in found
        if own.replicas < own.engine.max_replicas and free[own.node_type] * own.per_node >= 1 - 1e-9
    ]:
        own = min(growing, key=lambda own: own.replicas)
        own.replicas += 1
        free[own.node_type] -= 1 / own.per_node
    return found
