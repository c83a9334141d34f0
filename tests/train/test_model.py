"""The packaged model, trained with ZeRO-3 on two workers, answers in vLLM."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from limo_ray.core import config as configs
from limo_ray.core.prompts import question_messages
from limo_ray.core.records import Problem
from limo_ray.engines.base import EngineConfig, Request, SamplingConfig, create
from limo_ray.storage import model_files
from limo_ray.train.config import TrainConfig
from limo_ray.train.sft import train
from tests.train import tiny

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.engine
def test_smollm2_trains_and_answers_in_vllm(tmp_path: Path, local_ray: Any) -> None:
    tiny.data_file(tmp_path / "data.jsonl", count=10)
    changed = {"store": tmp_path, "data": tmp_path / "data.jsonl", "workers.cpus": 0.5,
               "optimizer.max_steps": 3, "optimizer.warmup": 0, "rows.held_out": 2}  # fmt: skip
    arguments = [f"{key}={value}" for key, value in changed.items()]
    preset = str(ROOT / "conf/train/laptop.yaml")
    result = train(configs.load(TrainConfig, [preset, *arguments]), "cpu")
    assert result.metrics["held_out_loss"] < result.metrics["held_out_before"]
    assert model_files.identity(result.folder) != model_files.identity(model_files.PACKAGED)

    problem = Problem(id="0" * 32, question="What is 3 + 4?", answer="7", source="test")
    engine = create(
        EngineConfig(
            model=result.folder, device="cpu", dtype="bfloat16", max_num_seqs=8,
            max_model_len=256, kv_cache_gib=1, eager=True,
        )
    )  # fmt: skip

    async def ask() -> str:
        await engine.start()
        prompt = engine.render(question_messages(problem.question))
        sampling = SamplingConfig(temperature=0, max_tokens=24)
        request = Request(problem=problem, index=0, prompt=prompt, sampling=sampling)
        return (await engine.generate(request)).text

    try:
        assert asyncio.run(ask()).strip()
    finally:
        engine.shutdown()
