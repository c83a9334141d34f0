"""JSON schemas of KubeRay's resources that accept no unknown field, as an API server checks them.

    errors(document)             our description of ray.io/v1, pods as Kubernetes' own models say
    strict(openapi_schema)       of a CustomResourceDefinition's file, where one is at hand

The fields of ray.io/v1 are those of KubeRay 1.6's published API reference, as far as a user writes
them (no status). Pods, services and resources come from lightkube-models, made from Kubernetes'
OpenAPI description.
"""

from functools import cache
from typing import Any

import jsonschema
import msgspec
from lightkube.models import core_v1, meta_v1, networking_v1

TEXT = {"type": "string"}
WHOLE = {"type": "integer", "minimum": 0}
YES = {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
MANAGERS = {"enum": ["ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"]}


def fields(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def many(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


def kubernetes(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


def cluster() -> dict[str, Any]:
    """RayClusterSpec."""
    credential = fields(value=TEXT, valueFrom=kubernetes("EnvVarSource"))
    group = {
        "template": kubernetes("PodTemplateSpec"),
        "rayStartParams": TEXTS,
        "labels": TEXTS,
        "resources": TEXTS,
    }
    head = fields(
        ("template",), **group, headService=kubernetes("Service"), enableIngress=YES,
        serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]},
    )  # fmt: skip
    worker = fields(
        ("groupName", "template", "minReplicas", "maxReplicas"), **group, groupName=TEXT,
        replicas=WHOLE, minReplicas=WHOLE, maxReplicas=WHOLE, numOfHosts=WHOLE, suspend=YES,
        idleTimeoutSeconds=WHOLE, scaleStrategy=fields(workersToDelete=many(TEXT)),
    )  # fmt: skip
    autoscaler = fields(
        version={"enum": ["v1", "v2"]}, idleTimeoutSeconds=WHOLE, image=TEXT,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        imagePullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
        resources=kubernetes("ResourceRequirements"), env=many(kubernetes("EnvVar")),
        securityContext=kubernetes("SecurityContext"), envFrom=many(kubernetes("EnvFromSource")),
        volumeMounts=many(kubernetes("VolumeMount")),
    )  # fmt: skip
    return fields(
        ("headGroupSpec",), headGroupSpec=head, workerGroupSpecs=many(worker), rayVersion=TEXT,
        enableInTreeAutoscaling=YES, autoscalerOptions=autoscaler, suspend=YES, managedBy=MANAGERS,
        authOptions=fields(
            mode={"enum": ["disabled", "token"]}, secretName=TEXT, enableK8sTokenAuth=YES
        ),
        gcsFaultToleranceOptions=fields(
            ("redisAddress",), redisAddress=TEXT, externalStorageNamespace=TEXT,
            redisUsername=credential, redisPassword=credential,
        ),
        headServiceAnnotations=TEXTS,
    )  # fmt: skip


def job() -> dict[str, Any]:
    """RayJobSpec."""
    policy = fields(
        ("policy",),
        policy={"enum": ["DeleteCluster", "DeleteWorkers", "DeleteSelf", "DeleteNone"]},
    )
    return fields(
        entrypoint=TEXT, rayClusterSpec=cluster(), runtimeEnvYAML=TEXT, metadata=TEXTS, jobId=TEXT,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        shutdownAfterJobFinishes=YES, ttlSecondsAfterFinished=WHOLE, backoffLimit=WHOLE,
        activeDeadlineSeconds=WHOLE, suspend=YES, managedBy=MANAGERS, clusterSelector=TEXTS,
        submitterConfig=fields(backoffLimit=WHOLE), entrypointResources=TEXT,
        submitterPodTemplate=kubernetes("PodTemplateSpec"), entrypointNumCpus={"type": "number"},
        entrypointNumGpus={"type": "number"},
        deletionStrategy=fields(onSuccess=policy, onFailure=policy),
    )  # fmt: skip


def service() -> dict[str, Any]:
    """RayServiceSpec."""
    return fields(
        serveConfigV2=TEXT, rayClusterConfig=cluster(), serveService=kubernetes("Service"),
        excludeHeadPodFromServeSvc=YES, rayClusterDeletionDelaySeconds=WHOLE, suspend=YES,
        upgradeStrategy=fields(type={"enum": ["NewCluster", "None"]}),
    )  # fmt: skip


def closed(schema: Any) -> Any:
    """The same schema, but an object takes only the fields that are named."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items() if key != "description"}
    if isinstance(result.get("properties"), dict):
        result.setdefault("additionalProperties", False)
    return result


@cache
def validator(kind: str) -> jsonschema.Draft202012Validator:
    specs = {"RayJob": job, "RayService": service, "RayCluster": cluster}
    models = [
        meta_v1.ObjectMeta, core_v1.PodTemplateSpec, core_v1.Service, core_v1.EnvFromSource,
        networking_v1.NetworkPolicySpec,
    ]  # fmt: skip
    _, definitions = msgspec.json.schema_components(models, ref_template="#/$defs/{name}")
    group = "ray.io/v1" if kind in specs else "networking.k8s.io/v1"
    spec = specs[kind]() if kind in specs else kubernetes("NetworkPolicySpec")
    schema = fields(
        ("apiVersion", "kind", "metadata", "spec"), apiVersion={"const": group},
        kind={"const": kind}, metadata=kubernetes("ObjectMeta"), spec=spec,
    )  # fmt: skip
    return jsonschema.Draft202012Validator(schema | {"$defs": closed(definitions)})


def errors(document: dict[str, Any]) -> list[str]:
    """What an API server would say against it, each with the field's path."""
    return told(validator(document["kind"]), document)


def told(checks: jsonschema.Draft202012Validator, document: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in checks.iter_errors(document)]


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """A CRD's openAPIV3Schema as a JSON schema: unknown fields refused where they would be lost."""
    result = {}
    for key, value in schema.items():
        if key in ("properties", "additionalProperties") and isinstance(value, dict):
            nested = key == "properties"
            result[key] = {n: strict(v) for n, v in value.items()} if nested else strict(value)
        elif key == "items":
            result[key] = strict(value)
        elif key in ("type", "enum", "required", "pattern", "minimum", "maximum", "anyOf"):
            result[key] = value
    if "properties" in result and not schema.get("x-kubernetes-preserve-unknown-fields"):
        result["additionalProperties"] = False
    return result
