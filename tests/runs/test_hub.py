"""Publishing, against a stand-in of the hub."""

import io
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from limo_ray.core import config
from limo_ray.curate import hub as curate_hub
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.hub import PublishDataConfig
from limo_ray.curate.pipeline import run_key
from limo_ray.runs.hub import PublishConfig, PublishError, upload
from limo_ray.storage.store import Store
from tests.runs import finished_run, hub_server
from tests.runs.hub_server import Hub

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    with hub_server.hub() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
        yield running


def publish_data(folder: Path, **settings: bool | str) -> None:
    finished_run.make(folder)
    chosen = PublishDataConfig(**settings)  # type: ignore[arg-type]
    curate_hub.upload(chosen, Store(str(folder)), "small")


def test_nothing_is_published_without_being_asked(hub: Hub, tmp_path: Path) -> None:
    publish_data(tmp_path)
    assert upload(PublishConfig(), "model", Store(str(tmp_path)), ["*"], "x") == ""
    assert hub.requests == []
    for file in (ROOT / "conf").rglob("*.yaml"):
        assert "publish" not in (yaml.safe_load(file.read_text()) or {})


def test_a_data_set_has_card_examples_and_problems_with_pass_rates(
    hub: Hub, tmp_path: Path
) -> None:
    publish_data(tmp_path, hub="org/data")
    assert hub.private == {"datasets/org/data": True}
    files = hub.files["datasets/org/data"]
    assert set(files) == {
        "README.md", "examples.parquet", "manifest.json", "report.html", "problems.parquet",
    }  # fmt: skip
    problems = pq.read_table(io.BytesIO(files["problems.parquet"])).to_pylist()
    assert [(row["correct"], row["finished"]) for row in problems] == [(1, 4), (1, 4)]
    front = yaml.safe_load(files["README.md"].decode().split("---")[1])
    paths = {each["config_name"]: each["data_files"][0]["path"] for each in front["configs"]}
    assert paths == {"default": "examples.parquet", "problems": "problems.parquet"}


def test_attempts_are_published_on_request(hub: Hub, tmp_path: Path) -> None:
    publish_data(tmp_path, hub="org/data", attempts=True, private=False)
    assert hub.private == {"datasets/org/data": False}
    rows = pq.read_table(io.BytesIO(hub.files["datasets/org/data"]["attempts.parquet"]))
    assert rows.num_rows == 12


def test_a_model_folder_and_results_are_published(hub: Hub, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for name in ("config.json", "model.safetensors", "README.md"):
        store.write_text(f"models/m/{name}", "---\nlicense: mit\n---\n")
    upload(PublishConfig(hub="org/m"), "model", store.within("models/m"), ["*"], "training m")
    assert set(hub.files["models/org/m"]) == {"config.json", "model.safetensors", "README.md"}
    store.write_text("evaluations/e/results.json", "{}")
    store.write_text("evaluations/e/heartbeat.json", "{}")
    results = store.within("evaluations/e")
    upload(PublishConfig(hub="org/e"), "dataset", results, ["results.json"], "evaluation e")
    assert set(hub.files["datasets/org/e"]) == {"results.json"}, "no other files of the folder"


def test_a_public_repository_is_refused_where_a_private_one_was_asked_for(
    hub: Hub, tmp_path: Path
) -> None:
    hub.private["datasets/org/data"] = False
    with pytest.raises(PublishError, match=r"publish.private: org/data is public"):
        publish_data(tmp_path, hub="org/data")
    assert hub.files == {}


def test_a_refusal_says_what_to_do(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(PublishError, match=r"publish.hub: org/data: .*hf auth login"):
        publish_data(tmp_path, hub="org/data")


def test_a_wrong_name_is_told_by_the_config() -> None:
    argv = [str(ROOT / "conf/curate/laptop.yaml"), "publish.hub=data"]
    with pytest.raises(config.ConfigError, match=r"publish\.hub: 'data' must be owner/name"):
        config.load(CurateConfig, argv)


def test_publishing_does_not_make_another_run() -> None:
    def key(*more: str) -> str:
        argv = [str(ROOT / "conf/curate/laptop.yaml"), *more]
        return run_key(config.load(CurateConfig, argv), "cpu")

    assert key("publish.hub=org/data", "publish.attempts=true") == key() != key("seed=5")
