"""The examples run, one after the other in one folder, and show what they promise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.process


def run(folder: Path, name: str, *argv: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *argv], cwd=folder, text=True,
        env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.process
def test_verify_only(tmp_path: Path) -> None:
    lines = run(tmp_path, "verify_only.py").splitlines()
    assert lines == ["correct", "wrong", "['correct', 'correct']", "1.0", "[0.0]"]


@pytest.mark.process
def test_custom_source(tmp_path: Path) -> None:
    first, second, third = run(tmp_path, "custom_source.py").splitlines()
    assert "'question': 'A train goes 60 km in 45 minutes. What is its speed in km/h?'" in first
    assert "'answer': '80'" in first and '"meta.level": "easy"' in first
    assert "'reason': 'not_selected'" in second
    assert "'reason': 'invalid'" in third


@pytest.mark.ray
def test_a_curation_of_own_problems_and_its_attempts(tmp_path: Path) -> None:
    shown = run(tmp_path, "own_problems.py", "--scripted")
    assert "10 examples selected: 50 rows read" in shown
    assert "What is " in shown and "selection" in shown
    shown = run(tmp_path, "read_attempts.py")
    assert "pass_rate" in shown and "strong" in shown and "correct" in shown


def test_every_example_is_run_and_listed() -> None:
    here = Path(__file__).read_text()
    table = (ROOT / "examples/README.md").read_text()
    for file in (ROOT / "examples").glob("*.py"):
        assert f'"{file.name}"' in here and f"`{file.name}`" in table


@pytest.mark.process
@pytest.mark.parametrize("name", ["curate", "train", "evaluate"])
def test_a_job_is_a_package_and_a_function(name: str) -> None:
    code = f"""
import pickle, sys
import limo_ray.{name}.config
from limo_ray import {name}, Verifier, load_config, open_run
assert callable({name}) and {name}.config
from ray import cloudpickle
assert pickle.loads(cloudpickle.dumps({name})) is {name}
try:
    {name}("labtop")
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True)
    assert "did you mean laptop?" in done.stdout, done.stderr


@pytest.mark.process
def test_importing_limo_ray_imports_nothing_heavy() -> None:
    code = (
        "import limo_ray, sys; print([n for n in ('ray', 'pyarrow', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True)
    assert done.stdout.strip() == "[]"
