"""Checkpoints that are known to be whole: a list of files with sizes and checksums, and a way back.

Every worker writes its own shards and a list of them, `files-<rank>.json`; Ray Train merges the
folders in the storage. A checkpoint that lacks a file, or holds other bytes than its lists say, is
passed by with a warning, and the training goes on from the one before it.
"""

import json
import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import ray.train
from ray.train import Checkpoint

from limo_ray.core.errors import TrainingError
from limo_ray.core.text import first_line
from limo_ray.storage.store import Store
from limo_ray.train.config import TrainConfig

log = logging.getLogger(__name__)

TAG = "state"  # folder of DeepSpeed's files in a checkpoint
FACTS = "limo_ray.json"  # what made it, and the history up to it
CHUNK = 16 * 2**20  # bytes read at once


def shard_layout(config: TrainConfig) -> dict[str, Any]:
    """What DeepSpeed's shards are cut by."""
    zero = config.zero
    return {"workers": config.workers.count, "stage": zero.stage, "offload": zero.offload_optimizer}


def write_facts(folder: Path, facts: dict[str, Any]) -> None:
    (folder / FACTS).write_text(json.dumps(facts))


def write_file_list(folder: Path, rank: int) -> None:
    """Lists a worker's files with their sizes and CRC-32 checksums."""
    files = {
        str(file.relative_to(folder)): [file.stat().st_size, _checksum(file)]
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    (folder / f"files-{rank}.json").write_text(json.dumps(files))


def damage(folder: Path, rank: int, present: int) -> str:
    """What is wrong with a checkpoint, as far as this worker looks; empty for a sound one.

    The `present` workers share the lists of those that wrote it. A checkpoint without lists (of an
    older version) is taken as it is.
    """
    try:
        facts = json.loads((folder / FACTS).read_text())
    except (OSError, ValueError) as error:
        return f"{FACTS} cannot be read: {first_line(error)}"
    if not isinstance(facts, dict) or not {"made_by", "history"} <= facts.keys():
        return f"{FACTS} is incomplete"
    lists = list(folder.glob("files-*.json"))
    if not lists:
        return ""
    workers = facts["made_by"]["workers"]
    if len(lists) != workers:
        return f"{len(lists)} of {workers} file lists"
    found = (_damage_of_list(folder, writer) for writer in range(rank, workers, present))
    return next(filter(None, found), "")


def _damage_of_list(folder: Path, writer: int) -> str:
    try:
        files = json.loads((folder / f"files-{writer}.json").read_text())
    except (OSError, ValueError) as error:
        return f"files-{writer}.json cannot be read: {first_line(error)}"
    for name, (size, checksum) in files.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size:,} of {size:,} bytes"
        if _checksum(file) != checksum:
            return f"{name} has another checksum"
    return ""


def _checksum(file: Path) -> int:
    found = 0
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            found = zlib.crc32(chunk, found)
    return found


def newest_first(newest: Checkpoint) -> Iterator[Checkpoint]:
    """A checkpoint, then the older ones that lie beside it."""
    yield newest
    parent, _, name = newest.path.rstrip("/").rpartition("/")
    assert newest.filesystem is not None
    infos = newest.filesystem.get_file_info(pafs.FileSelector(parent, allow_not_found=True))
    older = [
        info.base_name
        for info in infos
        if info.type == pafs.FileType.Directory
        and info.base_name.startswith("step_")
        and info.base_name < name
    ]
    for folder in sorted(older, reverse=True):
        yield Checkpoint(path=f"{parent}/{folder}", filesystem=newest.filesystem)


@contextmanager
def local_copy(checkpoint: Checkpoint) -> Iterator[Path]:
    with checkpoint.as_directory() as folder:
        yield Path(folder)


def upload(store: Store, checkpoint: Checkpoint, name: str) -> Checkpoint:
    """Copies a checkpoint into an object store, in place of Ray Train.

    Ray does it with Arrow's copy_files, which goes on in silence when a store does not take a
    file: a checkpoint would lack it.
    """
    storage = ray.train.get_context().get_storage()
    path = storage.build_checkpoint_path_from_name(name)
    inside = path.removeprefix(store.path("") + "/")
    for file in sorted(Path(checkpoint.path).rglob("*")):
        if file.is_file():
            store.copy_in(file, f"{inside}/{file.relative_to(checkpoint.path)}")
    return Checkpoint(path=path, filesystem=storage.storage_filesystem)


def check_resumable(config: TrainConfig, checkpoints: Store) -> None:
    """Raises TrainingError when other workers made the newest checkpoint, before any starts."""
    snapshot = checkpoints.read_json("checkpoint_manager_snapshot.json") or {}
    newest = (snapshot.get("latest_checkpoint_result") or {}).get("checkpoint_dir_name")
    facts = checkpoints.read_json(f"{newest}/{FACTS}") if newest else None
    if facts is not None and "made_by" in facts:
        refuse_other_layout(facts["made_by"], config, f"{checkpoints.shown}/{newest}")


def refuse_other_layout(made_by: dict[str, Any], config: TrainConfig, checkpoint: str) -> None:
    """Raises TrainingError unless a checkpoint's shards are those of this config's workers."""
    wanted = shard_layout(config)
    if made_by != wanted:
        raise TrainingError(
            f"the checkpoint {checkpoint} was made with {_describe(made_by)} and cannot be "
            f"continued with {_describe(wanted)}: give the same, or another `name` to start anew"
        )


def _describe(layout: dict[str, Any]) -> str:
    offload = ", offload" if layout["offload"] else ""
    return f"{layout['workers']} worker(s) at ZeRO stage {layout['stage']}{offload}"
