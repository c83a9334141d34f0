"""All presets start where the hub and the files' server hold what they name."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from limo_ray.problems.benchmarks import BENCHMARKS
from tests import hub_server
from tests.train import tiny

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
JOBS = ("curate", "train", "evaluate", "serve")
FILES = [file for job in JOBS for file in sorted((ROOT / "conf" / job).glob("*.yaml"))]
SUBSETS = {"EleutherAI/hendrycks_math": ["algebra", "geometry"],
           "Hothan/OlympiadBench": ["OE_TO_maths_en_COMP"], "Idavidrein/gpqa": ["gpqa_diamond"],
           "openai/gsm8k": ["main", "socratic"]}  # fmt: skip


def rows(count: int) -> bytes:
    """Rows that every mapping, benchmark and training reads."""
    lines = []
    for n in range(count):
        text, answer = f"Ann has {n} apples and buys {n} more. How many are these?", str(2 * n)
        row = dict.fromkeys(("problem", "question", "Question"), text)
        row |= dict.fromkeys(("answer", "Answer", "Correct Answer"), answer)
        row |= {f"Incorrect Answer {i}": f"{answer}{i}" for i in (1, 2, 3)}
        row |= {
            "solution": f"It is \\boxed{{{answer}}}.", "final_answer": [answer], "Year": 1990,
            "problem_is_valid": "Yes", "solution_is_valid": "Yes", "question_type": "word",
            "level": 1, "subject": "sums", "subfield": "sums", "High-level domain": "sums",
            "thinking_trajectories": ["Let us add."], "attempt": f"It is {answer}.",
        }  # fmt: skip
        lines.append(json.dumps(row) + "\n")
    return "".join(lines).encode()


def data_set(name: str, split: str, count: int) -> dict[str, bytes]:
    if name not in SUBSETS:
        return {f"{split}.jsonl": rows(count)}
    listed = [{"config_name": subset, "data_files": [{"split": split, "path": f"{subset}.jsonl"}]}
              for subset in SUBSETS[name]]  # fmt: skip
    card = f"---\n{yaml.safe_dump({'configs': listed})}---\n"
    return {f"{name}.jsonl": rows(count) for name in SUBSETS[name]} | {"README.md": card.encode()}


def named(word: str) -> set[str]:
    """Repositories of the hub that the presets name after a key."""
    pattern = rf"^[^#\n]*\b{word}: ([\w.-]+/[\w.-]+)"
    found = {name for file in FILES for name in re.findall(pattern, file.read_text(), re.M)}
    return {name for name in found if not name.startswith(("packaged/", "store/"))}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[hub_server.Hub]:
    folder = tiny.model_folder(tmp_path_factory.mktemp("model"), max_position_embeddings=131072)
    model = {file.name: file.read_bytes() for file in folder.iterdir()}
    repositories = {f"models/{name}": model for name in named("model")}
    for name in named("hub") | named("data"):
        repositories[f"datasets/{name}"] = data_set(name, "train", 5)
    files = {}
    for known in BENCHMARKS.values():
        if known.hub:
            made = data_set(known.hub, known.split, known.items or 5)
            repositories[f"datasets/{known.hub}"] = made
        else:
            assert known.file is not None
            path = f"{known.file.repository}/{known.file.commit}/{known.file.path}"
            files[path] = rows(known.items)
    with hub_server.serve(repositories, files) as server:
        yield server


@pytest.fixture(scope="module")
def started(hub: hub_server.Hub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("start")
    tiny.data_file(folder / "examples.jsonl")
    environment = {key: value for key, value in os.environ.items() if key[:3] not in ("HF_", "RAY")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.cli.start_presets", hub.url, str(folder)], cwd=ROOT,
        env=environment | {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf")},
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    lines = [line.removeprefix("STARTED ") for line in done.stdout.splitlines()
             if line.startswith("STARTED ")]  # fmt: skip
    return {found.pop("preset"): found for found in map(json.loads, lines)}


def test_all_presets_start(started: dict[str, Any]) -> None:
    assert list(started) == [f"{file.parent.name}/{file.stem}" for file in FILES]
    assert all(found["there"] for found in started.values())


def test_the_flagship_has_its_sources_and_all_ten_benchmarks(started: dict[str, Any]) -> None:
    found = started["curate/limo"]
    assert len(found["live"]) == 4 and min(found["live"].values()) >= 3
    assert found["missing"] == []
    sizes = started["evaluate/limo"]["items"]
    assert len(sizes) == 10 and found["items"] == sum(sizes.values())
    assert found["stages"] == ["weak", "strong", "DeepSeek-R1", "QwQ-32B"]


def test_the_hub_is_asked_for_the_pinned_commits(
    hub: hub_server.Hub, started: dict[str, Any]
) -> None:
    text = (ROOT / "conf/curate/limo.yaml").read_text()
    pinned = set(re.findall(r"revision: ([0-9a-f]{40})", text))
    pinned |= {known.revision for name, known in BENCHMARKS.items()
               if known.hub and name != "gsm8k"}  # fmt: skip
    assert len(pinned) == 8 + 7
    assert [commit for commit in pinned if not any(commit in path for path in hub.asked)] == []
