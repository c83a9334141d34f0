"""The walls: which package may be imported where, and that schemas load without heavy ones."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WALLS = {
    "omegaconf": ["limo_ray/core/config.py"],
    "vllm": ["limo_ray/engines/vllm.py", "limo_ray/engines/vllm_internals.py", "limo_ray/serve/"],
    "vllm.v1": ["limo_ray/engines/vllm_internals.py"],
    "openai": ["limo_ray/engines/api_client.py"],
    "math_verify": ["limo_ray/verify/"],
    "sympy": ["limo_ray/verify/"],
    "flint": ["limo_ray/verify/"],
    "deepspeed": ["limo_ray/train/"],
    "ray.serve": ["limo_ray/serve/"],
}


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("package", WALLS)
def test_a_package_is_imported_only_behind_its_wall(package: str) -> None:
    for file in sorted((ROOT / "limo_ray").rglob("*.py")):
        inside = str(file.relative_to(ROOT))
        if any(inside.startswith(place) for place in WALLS[package]):
            continue
        found = [n for n in imported(file) if n == package or n.startswith(package + ".")]
        assert not found, f"{inside} imports {found}"


def test_private_parts_of_ray_are_used_in_one_file() -> None:
    private = re.compile(r"\bray\.(_private|_raylet|(\w+\.)*_internal)\b|from ray(\.\w+)* import _")
    for file in sorted((ROOT / "limo_ray").rglob("*.py")):
        if file != ROOT / "limo_ray/sampling/ray_internals.py":
            found = private.search(file.read_text())
            assert not found, f"{file} uses {found[0]}: it belongs into sampling/ray_internals.py"


PURE = [
    "limo_ray.sampling.stop_rule", "limo_ray.sampling.target", "limo_ray.curate.select",
    "limo_ray.engines.published",
    "limo_ray.report",
    "limo_ray.evaluate.metrics", "limo_ray.evaluate.compare", "limo_ray.evaluate.results",
    "limo_ray.report.evaluation", "limo_ray.serve.budget", "limo_ray.serve.openai_extensions",
    "limo_ray.serve.gateway",
]  # fmt: skip


@pytest.fixture(scope="module")
def brought() -> dict[str, list[str]]:
    """What each module is the first to import of the heavy packages; all in one process."""
    code = (
        "import importlib, json, sys\nfound = {}\nfor module in sys.argv[1:]:\n"
        " before = set(sys.modules); importlib.import_module(module)\n"
        " found[module] = [n for n in ('ray', 'torch', 'vllm') if n in set(sys.modules) - before]\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *PURE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.process
@pytest.mark.parametrize("module", PURE)
def test_pure_modules_need_no_ray_torch_or_vllm(module: str, brought: dict[str, list[str]]) -> None:
    assert brought[module] == []


def test_jobs_are_thin() -> None:
    for job in (ROOT / "jobs").glob("*.py"):
        assert len(job.read_text().splitlines()) < 20, job
