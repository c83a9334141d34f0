"""A checkpoint goes on with other workers, another ZeRO stage or offload than it was made with.

DeepSpeed's universal format has a folder per parameter, with its float32 weights and both of Adam's
means whole. DeepSpeed cuts it for any number of workers, but neither writes nor reads it at stage
0, nor goes from stages 1 and 2 to stage 3 or back: the files that these lack are written here.

    python -m pytest tests/train/test_universal.py
"""

import contextlib
import io
import os
import shutil
import socket
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from limo_ray.train import model as models

MEANS = ("exp_avg", "exp_avg_sq")


def restore(engine: Any, shards: Path, stage: int, steps: int) -> None:
    """Loads the weights and optimizer states of a checkpoint of another layout; a collective call.

    Args:
        engine: of DeepSpeed, as it is before its first step.
        shards: DeepSpeed's files of a checkpoint.
        stage: the ZeRO stage that wrote them.
        steps: optimizer steps before the checkpoint.
    """
    with _converted(engine, shards, stage, steps) as folder:
        if engine.zero_optimization():
            _load_shards(engine, folder, steps)
        else:
            _load_whole(engine, folder / "zero", steps)
        dist.barrier()


@contextmanager
def _converted(engine: Any, shards: Path, stage: int, steps: int) -> Iterator[Path]:
    """The universal form on this node's disk, made by its first worker: 12 bytes a parameter."""
    first = int(os.environ.get("LOCAL_RANK", dist.get_rank())) == 0
    made = tempfile.mkdtemp(prefix="limo_ray-universal-") if first else ""
    try:
        if first:
            _convert(engine, shards, Path(made), stage, steps)
        folders: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(folders, (socket.gethostname(), made))
        here = next(path for host, path in folders if host == socket.gethostname() and path)
        yield Path(here)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _convert(engine: Any, shards: Path, folder: Path, stage: int, steps: int) -> None:
    import deepspeed

    if stage == 0:
        _convert_whole(engine, shards, folder / "zero")
    else:
        from deepspeed.checkpoint import ds_to_universal

        told = Namespace(
            input_folder=str(shards), output_folder=str(folder), num_extract_workers=1,
            num_merge_workers=1, keep_temp_folder=False, strict=True, inject_missing_state=True,
        )  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            ds_to_universal.main(told)
        (folder.parent / "latest_universal").unlink(missing_ok=True)
    for name in _names(engine):
        own = folder / "zero" / name
        for key in ("fp32", *MEANS):
            value = torch.load(own / f"{key}.pt", weights_only=False)
            if torch.is_tensor(value):  # from stage 3, and the other stages would not read it
                torch.save({"param": value}, own / f"{key}.pt")
        torch.save(_step(steps), own / "step.pt")
    groups = _hyperparameters(engine)
    inner = {"state": {0: {"step": _step(steps)}}, "param_groups": groups}
    facts = {
        "ds_version": deepspeed.__version__, "param_groups": groups, "optimizer_state_dict": inner,
    }  # fmt: skip
    torch.save(facts, folder / "zero" / "optimizer_state.pt")


def _convert_whole(engine: Any, shards: Path, folder: Path) -> None:
    """Stage 0: one file has all, the optimizer's states by their parameter's place."""
    file = next(shards.glob("mp_rank_00*_model_states.pt"))
    saved = torch.load(file, map_location="cpu", weights_only=False)
    for place, name in enumerate(_names(engine)):
        state = saved["optimizer"]["state"][place]
        (folder / name).mkdir(parents=True)
        tensors = {"fp32": saved["module"][name]} | {key: state[key] for key in MEANS}
        for key, value in tensors.items():
            torch.save({"param": value.clone()}, folder / name / f"{key}.pt")


def _names(engine: Any) -> list[str]:
    """Trained parameters in the optimizer's order."""
    names = {parameter: name for name, parameter in engine.module.named_parameters()}
    return [names[p] for group in models.decayed(engine.module, 0.0) for p in group["params"]]


def _load_whole(engine: Any, folder: Path, steps: int) -> None:
    parameters = dict(engine.module.named_parameters())
    for name in _names(engine):
        read: dict[str, Tensor] = {
            key: torch.load(folder / name / f"{key}.pt", weights_only=False)["param"]
            for key in ("fp32", *MEANS)
        }
        parameter = parameters[name]
        with torch.no_grad():
            parameter.copy_(read["fp32"].view(parameter.shape))
        state = engine.optimizer.state[parameter]
        for key in MEANS:
            state[key] = read[key].view(parameter.shape).to(parameter)
        state["step"] = _step(steps)


def _load_shards(engine: Any, folder: Path, steps: int) -> None:
    """Stages 1 to 3: each worker cuts its part out of every parameter."""
    optimizer = engine.optimizer
    groups = _hyperparameters(engine)
    whole = not engine.zero_optimization_partition_weights()
    if not whole:
        optimizer.checkpoint_event_prologue()
    optimizer.load_state_dict([], checkpoint_folder=str(folder))
    if whole:
        optimizer.update_lp_params()
    else:
        optimizer.checkpoint_event_epilogue()
    # stage 3 gives every group the settings of the first one, and one tensor to all as their step
    for group, settings in zip(optimizer.param_groups, groups, strict=True):
        group |= settings
    torchs = isinstance(optimizer.optimizer, torch.optim.AdamW)
    for state in optimizer.optimizer.state.values():
        state["step"] = _step(steps) if torchs else steps  # DeepSpeed's Adam counts in an int


def _hyperparameters(engine: Any) -> list[dict[str, Any]]:
    groups = engine.optimizer.param_groups
    return [{key: group[key] for key in group if key != "params"} for group in groups]


def _step(steps: int) -> Tensor:
    return torch.tensor(float(steps))
