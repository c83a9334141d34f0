"""Problems for RL trainers, and that their reward functions judge these rows."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from limo_ray.cli.commands import main
from limo_ray.verify.rewards import compute_score, reward_correct
from tests.runs import finished_run

PROMPT = [{"role": "system", "content": "Think."}, {"role": "user", "content": "What is kept1?"}]


def test_verl_rows_and_their_score(tmp_path: Path) -> None:
    file = tmp_path / "out/verl.parquet"
    assert main(["export", finished_run.make(tmp_path), "verl", str(file)]) == 0
    row, _ = pq.read_table(file).to_pylist()
    assert list(row) == ["data_source", "prompt", "ability", "reward_model", "extra_info"]
    assert row["prompt"] == PROMPT
    assert (row["data_source"], row["ability"]) == ("limo_ray/sums", "math")
    assert row["reward_model"] == {"style": "rule", "ground_truth": "12"}
    assert row["extra_info"]["pass_rate"] == 0.25
    gold, extra = row["reward_model"]["ground_truth"], row["extra_info"]
    assert compute_score(row["data_source"], r"\boxed{12.0}", gold, extra) == 1.0
    assert compute_score(row["data_source"], r"\boxed{13}", gold, extra) == 0.0
    assert compute_score(row["data_source"], "I do not know", gold) == 0.0


def test_trl_rows_and_their_rewards(tmp_path: Path) -> None:
    file = tmp_path / "trl.parquet"
    assert main(["export", finished_run.make(tmp_path), "trl", str(file)]) == 0
    table = pq.read_table(file)
    columns = {name: table[name].to_pylist() for name in table.column_names}
    assert columns["prompt"][0] == PROMPT
    completions = [[{"role": "assistant", "content": r"\boxed{12}"}], r"\boxed{7}"]
    prompts = columns.pop("prompt")
    assert reward_correct(prompts=prompts, completions=completions, **columns) == [1.0, 0.0]


def test_no_judgement_is_no_reward() -> None:
    """A gold answer that the checker of its domain cannot read is an error, not a wrong answer."""
    rewards = reward_correct(["p"], [r"\boxed{1}"], answer=["not JSON"], domain=["countdown"])
    assert rewards == [None]


def test_usage_and_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "x", "grpo", "y"]) == 2
    assert main(["export", f"{tmp_path}/runs/none", "trl", "y.parquet"]) == 1
    assert "has no manifest.json" in capsys.readouterr().err
