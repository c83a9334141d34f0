"""Presets, mistakes, the outline, what is added to a request, and the files for clusters."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from limo_ray.core import config
from limo_ray.core.prompts import SYSTEM
from limo_ray.serve import adapters, openai_extensions
from limo_ray.serve.app import application, build_app
from limo_ray.serve.config import ServeConfig
from limo_ray.serve.errors import ApiError
from limo_ray.serve.job import CAUSE, outline
from limo_ray.serve.openai_extensions import THINKING, prepared

ROOT = Path(__file__).parent.parent.parent
LAPTOP = str(ROOT / "conf/serve/laptop.yaml")
S1 = str(ROOT / "conf/serve/s1.yaml")
CHAT = "/v1/chat/completions"


def load(*argv: str) -> ServeConfig:
    return config.load(ServeConfig, [LAPTOP, *argv])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model=./no/such", ["model", "./no/such"]),
        ("port=99999", ["port", "99999"]),
        ("routing=luck", ["routing", "luck", "prefix"]),
        ("engine.kind=scripted", ["engine.kind", "scripted"]),
        ("budget.waits=17", ["budget.waits", "17", "most_waits"]),
        ("budget.max_thinking_tokens=-2", ["budget.max_thinking_tokens", "-2"]),
        ("budget.min_thinking_tokens=-1", ["budget.min_thinking_tokens", "-1"]),
        ("budget.style.wait=", ["budget.style.wait"]),
        ("gate.rpmm=3", ["gate.rpmm", "did you mean rpm"]),
        ("accept_s=0", ["accept_s", "0"]),
    ],
)
def test_mistakes_are_one_line(override: str, words: list[str]) -> None:
    with pytest.raises(config.ConfigError) as caught:
        load(override)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["does not exist"]),
        ("{", ["adapter_config.json", "not JSON"]),
        ('{"rank": 4}', ["adapter_config.json", "`r`"]),
        ('{"r": 4000}', ["adapter_config.json", "4000", "512"]),
        ('{"r": true}', ["adapter_config.json", "True"]),
    ],
)
def test_a_folder_without_an_adapter_is_named(
    content: str | None, words: list[str], tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/adapter_config.json").write_text(content)
    with pytest.raises(config.ConfigError) as caught:
        load(f"adapters={{mine: {tmp_path}/mine}}")
    for word in ["adapters", "mine", *words]:
        assert word in str(caught.value)


def test_adapters_have_room_for_the_largest(tmp_path: Path) -> None:
    for name, rank in (("a", 4), ("b", 12)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(json.dumps({"r": rank}))
    named = {name: str(tmp_path / name) for name in "ab"}
    assert adapters.engine_arguments(adapters.read(named)) == {
        "enable_lora": True, "max_loras": 2, "max_lora_rank": 16,
    }  # fmt: skip
    assert adapters.engine_arguments([]) == {}
    with pytest.raises(config.ConfigError, match="itself is called so"):
        load("served_name=a", f"adapters={{a: {tmp_path}/a}}")
    assert f"adapter   b: {tmp_path}/b" in outline(load(f"adapters={{b: {tmp_path}/b}}"), "cpu")


def test_the_model_is_the_engines_and_has_a_name(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    loaded = load(f"model={folder}")
    assert (loaded.engine.model, loaded.model_name) == (str(folder), "mine")
    assert load("served_name=limo").model_name == "limo"
    assert load().model_name == "packaged/SmolLM2-135M-Instruct"


def test_the_plan_says_what_would_start() -> None:
    text = outline(load("engine.max_replicas=3", "routing=prefix", "port=8123"), "cpu")
    assert "http://127.0.0.1:8123/v1" in text
    assert "1 to 3 on cpu" in text
    assert "prefix" in text
    assert "4 GPU(s)" in outline(
        config.load(ServeConfig, [str(ROOT / "conf/serve/limo.yaml")]), "gpu"
    )


def test_the_cause_of_a_failed_start_is_found_in_serves_pages() -> None:
    page = (
        "The deployment failed to start 2 times. Error:\nTraceback (most recent call last):"
        "\n  File x\nRuntimeError: Engine core\n\nThe above exception was the direct cause:\n"
        "limo_ray.engines.base.EngineError: engine for m did not start: model not found (m)\n"
    )
    assert CAUSE.findall(page) == ["engine for m did not start: model not found (m)"]


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "Q"}], **fields}


def test_a_chat_without_a_system_message_gets_the_recipes() -> None:
    made = prepared(CHAT, chat(), load())
    assert made["messages"] == [
        {"role": "system", "content": SYSTEM}, {"role": "user", "content": "Q"},
    ]  # fmt: skip
    own = [{"role": "system", "content": "mine"}, {"role": "user", "content": "Q"}]
    assert prepared(CHAT, chat(messages=own), load())["messages"] == own
    assert len(prepared(CHAT, chat(), load("system="))["messages"]) == 1
    other = prepared("/v1/completions", {"model": "m", "prompt": "Q"}, load())
    assert other == {"model": "m", "prompt": "Q"}
    for odd in ("text", [], [3], [[]], None):  # vLLM's to refuse
        prepared(CHAT, chat(messages=odd), load())


def test_the_budget_goes_where_the_engine_looks() -> None:
    made = prepared(CHAT, chat(min_thinking_tokens=5, waits=2), load())
    assert made["vllm_xargs"] == {THINKING: [5, -1, 2]}
    assert not set(openai_extensions.FIELDS) & set(made)
    assert prepared(CHAT, chat(max_thinking_tokens=0), load())["vllm_xargs"] == {
        THINKING: [0, 0, 0]
    }
    assert "vllm_xargs" not in prepared(CHAT, chat(waits=0, min_thinking_tokens=None), load())


def test_the_servers_own_budget_gives_way_to_a_requests() -> None:
    s1 = config.load(ServeConfig, [S1])
    assert prepared(CHAT, chat(), s1)["vllm_xargs"] == {THINKING: [0, 32000, 1]}
    assert prepared(CHAT, chat(waits=0), s1)["vllm_xargs"] == {THINKING: [0, 32000, 0]}
    least = load("budget.min_thinking_tokens=100")
    assert prepared(CHAT, chat(max_thinking_tokens=9), least)["vllm_xargs"] == {THINKING: [9, 9, 0]}
    most = load("budget.max_thinking_tokens=100")
    made = prepared(CHAT, chat(min_thinking_tokens=900), most)
    assert made["vllm_xargs"] == {THINKING: [900, 900, 0]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"min_thinking_tokens": -1}, "min_thinking_tokens"),
        ({"max_thinking_tokens": -1}, "max_thinking_tokens"),
        ({"waits": -1}, "waits"),
        ({"waits": 17}, "waits"),
        ({"waits": True}, "waits"),
        ({"waits": 1.5}, "waits"),
        ({"max_thinking_tokens": "9"}, "max_thinking_tokens"),
        ({"min_thinking_tokens": 9, "max_thinking_tokens": 8}, "min_thinking_tokens"),
        ({"waits": 1, "use_beam_search": True}, "use_beam_search"),
        ({"vllm_xargs": {THINKING: [0, 0, 0]}}, "vllm_xargs"),
        ({"kv_transfer_params": {}}, "kv_transfer_params"),
    ],
)
def test_a_wrong_field_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        prepared(CHAT, chat(**fields), load())
    assert (caught.value.status, caught.value.param) == (400, param)


def test_a_replicas_request_has_the_text_of_its_prompt() -> None:
    content = [{"type": "text", "text": "Q"}, {"type": "text", "text": "R"}]
    request = openai_extensions.replica_request(
        CHAT, chat(messages=[{"role": "user", "content": content}]), load(), "7"
    )
    assert request.prompt == f"{SYSTEM}QR"
    assert json.loads(request.body)["messages"][1]["content"] == content
    assert (
        openai_extensions.replica_request("/v1/completions", {"prompt": ""}, load(), "").prompt
        == " "
    )
    assert (
        openai_extensions.replica_request("/v1/completions", {"prompt": [1, 2]}, load(), "").prompt
        == " "
    )


def deployments(app: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def walk(bound: Any) -> None:
        deployment = bound._bound_deployment
        found[deployment.name] = deployment
        for argument in deployment.init_args:
            if hasattr(argument, "_bound_deployment"):
                walk(argument)

    walk(app)
    return found


def test_a_replica_asks_for_its_gpus_and_routes_by_prefix() -> None:
    loaded = config.load(ServeConfig, [str(ROOT / "conf/serve/limo.yaml")])
    replica = deployments(application(loaded, "cpu"))["Replica"]
    assert replica.ray_actor_options["num_gpus"] == 4
    assert replica._deployment_config.autoscaling_config.max_replicas == 4
    router = replica._deployment_config.request_router_config.request_router_class
    assert "PrefixCacheAffinityRouter" in str(router)
    # more than admission lets in: its queue is the only one before the engine's
    assert replica.max_ongoing_requests > loaded.gate.max_concurrent
    bundles = load(
        "engine.bundles=[{CPU: 1, GPU: 4}, {CPU: 1, GPU: 4}]", "engine.device=gpu",
        "engine.labels={role: sampler}",
    )  # fmt: skip
    replica = deployments(application(bundles, "cpu"))["Replica"]
    assert replica._deployment_config is not None
    assert len(replica._replica_config.placement_group_bundles) == 2
    selector = replica._replica_config.placement_group_bundle_label_selector
    assert selector == [{"role": "sampler"}] * 2


def test_the_builder_takes_the_jobs_arguments() -> None:
    app = build_app({"preset": LAPTOP, "served_name": "x", "gate": {"rpm": 5}, "port": 8123})
    loaded = deployments(app)["Ingress"].init_args[0]
    assert (loaded.served_name, loaded.gate.rpm, loaded.port) == ("x", 5, 8123)
    assert loaded.engine.device == "cpu"
    with pytest.raises(config.ConfigError, match="did you mean model"):
        build_app({"preset": LAPTOP, "modle": "x"})


def test_the_cluster_files_are_what_ray_takes() -> None:
    from ray.serve.schema import ServeDeploySchema

    text = yaml.safe_load((ROOT / "cluster/serve.yaml").read_text())
    schema = ServeDeploySchema.model_validate(text)
    # Ray takes unknown keys in silence: a slip of the pen in ours would be one
    assert set(text) <= set(ServeDeploySchema.model_fields)
    assert set(text["http_options"]) <= set(type(schema.http_options).model_fields)
    assert set(text["applications"][0]) <= set(type(schema.applications[0]).model_fields)
    for one in text["applications"][0]["deployments"]:
        assert set(one) <= set(type(schema.applications[0].deployments[0]).model_fields)
    (application_,) = schema.applications
    module, _, name = application_.import_path.partition(":")
    assert getattr(__import__(module, fromlist=[name]), name) is build_app
    app = build_app({**application_.args, "preset": str(ROOT / application_.args["preset"]),
                     "gate": {}})  # fmt: skip
    assert {one.name for one in application_.deployments} <= set(deployments(app))
    service = yaml.safe_load((ROOT / "cluster/rayservice.yaml").read_text())
    assert yaml.safe_load(service["spec"]["serveConfigV2"]) == text
