"""The wheel in an environment of its own: presets inside, a command that starts quickly."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest
import yaml

from limo_ray.cli.commands import COMMANDS

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
SOURCE = ["limo_ray", "conf", "setup.py", "pyproject.toml", "README.md", "LICENSE"]
PRESETS = sorted(str(file.relative_to(ROOT)) for file in (ROOT / "conf").rglob("*.yaml"))
HEAVY = {"torch", "ray", "vllm", "transformers", "pandas", "datasets", "deepspeed"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--wheel-dir", str(folder), str(folder)]
    subprocess.run(command, check=True, timeout=300)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The bin folder of an environment with the wheel; third-party packages are this one's."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "shared.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    command = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install"]
    command += ["--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(command, check=True, timeout=120)
    return folder / "bin"


def run(installed: Path, *argv: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [installed / argv[0], *argv[1:]], cwd=installed.parent, env=environment, text=True,
        capture_output=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_has_presets_types_and_no_test_tools(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        needs = message_from_bytes(archive.read(metadata)).get_all("Requires-Dist") or []
    sources = [file for file in (ROOT / "limo_ray").rglob("*") if file.is_file()]
    sources = [str(f.relative_to(ROOT)) for f in sources if "__pycache__" not in f.parts]
    assert set(sources) <= set(names), "a data file is missing in pyproject.toml"
    assert {f"limo_ray/{preset}" for preset in PRESETS} <= set(names)
    assert not [name for name in names if not name.startswith(("limo_ray/", "limo_ray-"))]
    assert any(need.startswith("ray[data]") for need in needs)
    always = [need for need in needs if "extra ==" not in need]
    assert not [need for need in always if need.startswith(("pytest", "torch", "moto", "llm-"))]


def test_help_names_every_command_and_every_preset(installed: Path) -> None:
    shown = run(installed, "limo-ray", "--help")
    assert all(f"limo-ray {name} " in shown for name in COMMANDS)
    shown = run(installed, "limo-ray", "curate", "--help")
    assert all(f"\n  {Path(p).stem}" in shown for p in PRESETS if p.startswith("conf/curate/"))
    assert "  difficulty.weak.rule.budget: int = 32\n" in shown
    assert str(installed.parent) in run(
        installed, "python", "-c", "import limo_ray; print(limo_ray.__file__)"
    )


def test_every_preset_resolves_without_torch_ray_or_vllm(installed: Path) -> None:
    code = f"""
import sys
from limo_ray.cli.commands import COMMANDS, main, named
from limo_ray.cli.presets import presets, resolve
from limo_ray.core import config
assert main(["--help"]) == main(["curate", "--help"]) == 0
for job, command in COMMANDS.items():
    for name in presets(command.presets):
        if job == "plan" and name.startswith(("published", "api")):  # no engine of ours to plan
            continue
        argv = ["laptop", name] if name == "plan/laptop" else [name]
        argv += ["pool_rows=9"] if job == "plan" else []
        config.load(named(command.schema), resolve(command.presets, argv))
        sys.stderr.write(name + " ")
print("loaded:", sorted({HEAVY!r} & sys.modules.keys()))
"""
    assert run(installed, "python", "-c", code).splitlines()[-1] == "loaded: []"


def test_files_beside_a_preset_are_found_from_any_folder(installed: Path) -> None:
    code = """
from limo_ray.problems.discovery import on_disk
print(on_disk("conf/curate/published_sample.parquet")[0].uri)
"""
    assert "site-packages/limo_ray/conf/curate" in run(installed, "python", "-c", code)


@pytest.mark.ray
def test_a_dry_run_in_another_folder_shows_the_plan(installed: Path) -> None:
    shown = run(installed, "limo-ray", "curate", "laptop", "seed=3", "--dry-run")
    assert "seed: 3" in shown
    assert "engine" in shown.partition("# plan")[2]
    assert not (installed.parent / "store").exists(), "nothing is written"


def test_the_versions_agree() -> None:
    import limo_ray

    text = (ROOT / "pyproject.toml").read_text()
    assert f'fallback_version = "{limo_ray.RELEASE}"' in text
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == limo_ray.RELEASE
