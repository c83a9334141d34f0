"""A training whose model, data, checkpoints and result lie in an S3 bucket."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from limo_ray.cli.status import main
from limo_ray.core import config as configs
from limo_ray.storage import model_files
from limo_ray.storage.store import Store
from limo_ray.train.config import TrainConfig
from limo_ray.train.sft import train
from tests.object_store import S3, SECRET, serve_s3
from tests.train import tiny


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with serve_s3() as server:
        yield server


def test_a_training_in_a_bucket_and_its_model(
    local_ray,
    s3: S3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr(model_files, "CACHE", tmp_path / "cache")
    tiny.model_folder(tmp_path / "model")
    tiny.data_file(tmp_path / "data.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "data.jsonl").read_text().splitlines()]
    store = Store(s3.uri("limo"))
    for file in (tmp_path / "model").iterdir():
        store.copy_in(file, f"models/base/{file.name}")
    store.write_table("runs/r/examples.parquet", pa.Table.from_pylist(rows))
    store.write_table("runs/r/ledger/part-0.parquet", pa.table({"not": ["an example"]}))
    base = store.within("models/base").uri
    assert model_files.identity(base) == model_files.identity(str(tmp_path / "model"))

    small = {
        "optimizer.epochs": 1, "rows.held_out": 4, "checkpoint.every_steps": 2,
        "store": store.uri, "model": base, "data": store.within("runs/r").uri,
    }  # fmt: skip
    config = configs.load(TrainConfig, tiny.overrides(tmp_path, **small))
    result = train(config, "cpu")
    assert result.folder == f"{store.shown}/models/tiny"
    run = store.within("training/tiny")
    manifest = run.read_json("manifest.json")
    steps = manifest["metrics"]["steps"]
    assert SECRET.partition("/")[0] not in json.dumps(manifest)
    assert SECRET.partition("/")[0] not in store.read_text("models/tiny/README.md")
    assert run.files("tensorboard", "")
    checkpoint = f"checkpoints/{manifest['key']}/step_{steps:06d}"
    assert run.exists(f"{checkpoint}/limo_ray.json") and run.files(f"{checkpoint}/state", "")
    assert main([store.uri, "tiny"]) == 0
    assert f"step {steps} of {steps}" in capsys.readouterr().out

    run.delete("manifest.json")
    again = train(config, "cpu")
    assert not again.resumed and again.metrics["steps"] == steps, "from the last checkpoint"
    assert again.metrics["loss"] == result.metrics["loss"]

    folder = model_files.resolve(store.within("models/tiny").uri)
    assert Path(folder).parent.parent == tmp_path / "cache"
    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(folder).num_parameters() > 0
    with pytest.raises(ValueError, match=r"'s3://\*\*\*@limo/limo/models/none' does not exist"):
        model_files.resolve(store.within("models/none").uri)
