"""A curation on the hub: card, examples, kept problems with their pass rates, attempts if asked."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from limo_ray.runs import hub
from limo_ray.runs.reader import Run
from limo_ray.storage.store import WRITTEN, Store

FILES = ["README.md", "examples.parquet", "manifest.json", "report.html"]


@dataclass(kw_only=True, slots=True)
class PublishDataConfig(hub.PublishConfig):
    """Where the examples are published; nowhere unless `hub` is set."""

    attempts: bool = False
    """Publish the attempts at the run's problems as well."""


def upload(config: PublishDataConfig, store: Store, name: str) -> str:
    """Uploads a finished run; returns the address, empty where nothing was asked for.

    Raises:
        PublishError: as limo_ray.runs.hub.upload.
    """
    if not config.hub:
        return ""
    import pyarrow.parquet as pq

    run, source = Run(store, name), store.within(f"runs/{name}")
    tables = ["problems", *(["attempts"] if config.attempts else [])]
    with tempfile.TemporaryDirectory() as folder:
        for file in FILES:
            source.copy_out(file, Path(folder) / file)
        for table in tables:
            pq.write_table(run.table(table), Path(folder) / f"{table}.parquet", **WRITTEN)
        card = Path(folder) / "README.md"
        card.write_text(_with_tables(card.read_text(), tables))
        return hub.upload(config, "dataset", Store(folder), ["*"], f"curation {name}")


def _with_tables(card: str, tables: list[str]) -> str:
    """The card, with a configuration for each further table: load_dataset(id, "problems")."""
    lines = card.split("\n")
    for number, line in enumerate(lines):
        if line.startswith("configs: "):
            configs = json.loads(line.removeprefix("configs: "))
            for table in tables:
                files = [{"split": "train", "path": f"{table}.parquet"}]
                configs.append({"config_name": table, "data_files": files})
            lines[number] = f"configs: {json.dumps(configs)}"
    return "\n".join(lines)
