"""Ray still has the private parts that ray_internals uses; a failure names the one that changed."""

import importlib
import inspect
import re

import pytest
import ray
from ray.data import DataContext

from limo_ray.sampling import ray_internals

INTERNAL = "ray.data._internal.execution"
POLICY = f"{INTERNAL}.backpressure_policy:BackpressurePolicy"
OPERATOR = f"{INTERNAL}.interfaces:PhysicalOperator"
MAP = f"{INTERNAL}.operators.map_operator:MapOperator"
CALLBACK = f"{INTERNAL}.execution_callback:ExecutionCallback"
EXECUTOR = f"{INTERNAL}.streaming_executor:StreamingExecutor"
PRIVATE = [
    "ray._private.state:state.get_draining_nodes",
    f"{INTERNAL}.backpressure_policy:ENABLED_BACKPRESSURE_POLICIES",
    f"{INTERNAL}.backpressure_policy:ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY",
    f"{POLICY}.can_add_input",
    f"{POLICY}.max_task_output_bytes_to_read",
    f"{OPERATOR}.output_dependencies",
    f"{OPERATOR}.metrics",
    f"{MAP}.internal_input_queue_num_blocks",
    f"{INTERNAL}.interfaces.op_runtime_metrics:OpRuntimeMetrics.average_bytes_per_output",
    f"{INTERNAL}.streaming_executor_state:OpState.total_enqueued_output_blocks",
    f"{CALLBACK}.on_execution_step",
    EXECUTOR,
    "ray._private.ray_constants:ENABLE_RAY_CLUSTER",
    "ray._private.worker:print_to_stdstream",
]


def find(name: str) -> object:
    """A private part of Ray, as module:attribute.attribute."""
    module, _, attributes = name.partition(":")
    try:
        found: object = importlib.import_module(module)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except (ImportError, AttributeError) as error:
        pytest.fail(
            f"Ray {ray.__version__} has no {name} any more ({error}): see what "
            f"{ray_internals.__name__} uses it for, and what replaces it"
        )
    return found


@pytest.mark.parametrize("name", PRIVATE)
def test_ray_has(name: str) -> None:
    find(name)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        (f"{POLICY}.__init__", ["self", "data_context", "topology", "resource_manager"]),
        (f"{POLICY}.can_add_input", ["self", "op"]),
        (f"{POLICY}.max_task_output_bytes_to_read", ["self", "op"]),
        (f"{CALLBACK}.on_execution_step", ["self", "executor"]),
        (f"{MAP}.internal_input_queue_num_blocks", ["self"]),
    ],
)
def test_ray_calls_with(name: str, parameters: list[str]) -> None:
    method = find(name)
    assert callable(method)
    found = list(inspect.signature(method).parameters)
    assert found == parameters, f"Ray {ray.__version__} changed {name}: {found}"


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        (POLICY, "_topology"),
        (EXECUTOR, "_topology"),
        (MAP, "_output_blocks_stats"),
    ],
)
def test_ray_sets_the_attribute(name: str, attribute: str) -> None:
    kind = find(name)
    assert isinstance(kind, type)
    assert re.search(rf"\bself\.{attribute}\b", inspect.getsource(kind)), (
        f"Ray {ray.__version__}: {name} has no {attribute} any more"
    )


def test_a_context_takes_the_policy_and_the_callback_once() -> None:
    context = DataContext()
    own = [*context.custom_execution_callback_classes]
    ray_internals.install(context)
    ray_internals.install(context)
    callbacks = context.custom_execution_callback_classes
    assert callbacks == [*own, ray_internals.DropBlockStats]
    policies = context.get_config(f"{find(PRIVATE[2])}")
    assert policies[-1] is ray_internals.QueuedBlocksLimit
    assert policies.count(ray_internals.QueuedBlocksLimit) == 1
    assert hasattr(context, "_max_num_blocks_in_streaming_gen_buffer"), (
        "a DataContext takes any name: without this one nothing would happen"
    )


def test_a_node_that_stays_has_no_deadline(local_ray, monkeypatch: pytest.MonkeyPatch) -> None:
    (node,) = local_ray.nodes()
    assert ray_internals.seconds_until_drained(node["NodeID"]) is None
    state = ray._private.state.state
    assert isinstance(state.get_draining_nodes(), dict)
    now_ms = ray_internals.time.time() * 1000
    deadlines = {"soon": now_ms + 20_000, "any moment": 0}
    monkeypatch.setattr(state, "get_draining_nodes", lambda: deadlines)
    assert ray_internals.seconds_until_drained("soon") == pytest.approx(20, abs=2)
    assert ray_internals.seconds_until_drained("any moment") == 0
    assert ray_internals.seconds_until_drained("another") is None


def test_only_abandoned_tasks_are_left_out_of_what_ray_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    monkeypatch.setattr(
        ray_internals.ray_worker, "print_to_stdstream",
        lambda data, ignore_prefix: told.extend(data["lines"]),
    )  # fmt: skip
    ray_internals.silence_abandoned_tasks()
    retried = "There are infinite retries remaining, so the task will be retried. Error: The actor"
    killed = "is dead because it was killed by `ray.kill`."
    abandoned = f"Task MapWorker(MapBatches(Sampler)).submit failed. {retried} {killed}"
    node = f"Task MapWorker(MapBatches(Sampler)).submit failed. {retried} died with its node."
    for line in (abandoned, node, "A worker died"):
        message = {"lines": [line], "pid": "raylet", "is_err": False}
        ray_internals.ray_worker.print_to_stdstream(message, ignore_prefix=False)
    assert told == [node, "A worker died"]
