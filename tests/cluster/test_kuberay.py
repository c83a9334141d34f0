"""cluster/ray*.yaml against KubeRay's resources, and by Ray's own reading of them."""

import copy
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr as derive,
)

from tests.cluster import kuberay
from tests.cluster.heads import ROOT

FILES = sorted(ROOT.glob("cluster/ray*.yaml"))


def load(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text())


def cluster_of(document: dict[str, Any]) -> dict[str, Any]:
    spec = document["spec"]
    return spec["rayClusterConfig" if document["kind"] == "RayService" else "rayClusterSpec"]


def node_types(file: Path) -> dict[str, Any]:
    """What Ray's autoscaler makes of the file; it raises for what it cannot read."""
    document = load(file)
    metadata = {"name": "limo", "namespace": "default"}
    return derive({"metadata": metadata, "spec": cluster_of(document)})["available_node_types"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_field_is_known_and_of_its_type(file: Path) -> None:
    assert kuberay.errors(load(file)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["spec", "entrypont"], "python x.py"),
        (["spec", "rayClusterSpec", "rayVersion"], 2.6),
        (["spec", "rayClusterSpec", "autoscalerOptions", "version"], "v3"),
        (["spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"], 0),
        (["spec", "rayClusterSpec", "workerGroupSpecs", 0, "maxReplicas"], "12"),
        (["spec", "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "contaners"], []),
        (
            ["spec", "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "containers", 0,
             "resources", "limit"],
            {"cpu": "1"},
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_found(path: list[Any], value: Any) -> None:
    document = copy.deepcopy(load(ROOT / "cluster/rayjob-curate.yaml"))
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert len(kuberay.errors(document)) == 1


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_ray_reads_nodes_and_labels_from_it(file: Path) -> None:
    types = node_types(file)
    head, *workers = types.values()
    assert head["resources"].get("GPU", 0) == 0
    if "rayjob" in file.name:
        assert head["resources"]["CPU"] == 0
        assert all(worker["min_workers"] == 0 for worker in workers), "an idle cluster is empty"
    roles = {name: node["labels"].get("role") for name, node in types.items()}
    assert all(roles.values()), roles


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_volumes_that_are_mounted_exist(file: Path) -> None:
    spec = cluster_of(load(file))
    for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        mounted = {m["name"] for c in pod["containers"] for m in c.get("volumeMounts", [])}
        assert mounted <= {volume["name"] for volume in pod.get("volumes", [])}


def templates(file: Path) -> list[dict[str, Any]]:
    """Of all pods that the file makes, a job's submitter among them."""
    document = load(file)
    spec = cluster_of(document)
    found = [group["template"] for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]]
    submitter = document["spec"].get("submitterPodTemplate")
    assert submitter or document["kind"] != "RayJob", "KubeRay's own runs with all capabilities"
    return [*found, *([submitter] if submitter else [])]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_pod_has_more_rights_than_it_needs(file: Path) -> None:
    """What Kubernetes' Pod Security Standard "restricted" asks for."""
    walls = [cluster_of(load(file))["autoscalerOptions"]["securityContext"]]
    for template in templates(file):
        pod = template["spec"]["securityContext"]
        assert pod["runAsNonRoot"] and pod["runAsUser"] == 1000, "the image's user"
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        walls += [container["securityContext"] for container in template["spec"]["containers"]]
    for wall in walls:
        assert wall == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_rays_ports_are_open_to_pods_of_the_same_cluster_alone(file: Path) -> None:
    policies = list(yaml.safe_load_all((ROOT / "cluster/networkpolicy.yaml").read_text()))
    assert [error for policy in policies for error in kuberay.errors(policy)] == []
    name = load(file)["metadata"]["name"]
    (spec,) = [policy["spec"] for policy in policies if policy["metadata"]["name"] == name]
    own = {"podSelector": {"matchLabels": {"app": name}}}
    assert all(t["metadata"]["labels"]["app"] == name for t in templates(file))
    assert spec["podSelector"] == own["podSelector"] and spec["policyTypes"] == ["Ingress"]
    inside, operator, *rest = spec["ingress"]
    assert inside == {"from": [own]}
    assert operator["ports"] == [{"port": 8265}] and operator["from"][0]["podSelector"]
    wanted = [{"ports": [{"port": 8000}]}] if "rayservice" in file.name else []
    assert rest == wanted


def test_a_crd_refuses_what_it_does_not_name() -> None:
    crd = {
        "type": "object",
        "required": ["size"],
        "properties": {
            "size": {"anyOf": [{"type": "integer"}, {"type": "string"}], "description": "x"},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True,
                     "properties": {}},
            "named": {"type": "object", "additionalProperties": {"type": "string"}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"a": {}}}},
        },
    }  # fmt: skip
    checks = jsonschema.Draft202012Validator(kuberay.strict(crd))
    good = {"size": "1Gi", "free": {"any": 1}, "named": {"x": "y"}, "list": [{"a": 1}]}
    assert kuberay.told(checks, good) == []
    for bad in ({"sise": 1}, {"size": []}, {"named": {"x": 1}}, {"list": [{"b": 1}]}):
        assert kuberay.told(checks, good | bad)


@pytest.mark.skipif(
    "LIMO_RAY_CRDS" not in os.environ,
    reason="LIMO_RAY_CRDS is no folder of KubeRay's CRDs (helm pull kuberay/kuberay-operator)",
)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_custom_resource_definitions_accept_it(file: Path) -> None:
    document = load(file)
    name = f"ray.io_{document['kind'].lower()}s.yaml"
    crd = load(Path(os.environ["LIMO_RAY_CRDS"]) / name)
    version = next(v for v in crd["spec"]["versions"] if v["name"] == "v1")
    schema = kuberay.strict(version["schema"]["openAPIV3Schema"])
    checks = jsonschema.Draft202012Validator(schema)
    metadata = {"metadata": {}}  # the API server's own
    assert kuberay.told(checks, document | metadata) == []
