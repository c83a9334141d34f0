"""Every command in README and docs is tried here, or marked as not run.

A block without a language is commands. Before one that needs a cluster, a GPU, the hub or a server
stands `<!-- not run: why -->`. Of jobs the config is loaded and the dry run is made.
"""

import json
import re
import shlex
from pathlib import Path

import pytest

from limo_ray.cli.commands import COMMANDS, main, named
from limo_ray.cli.presets import resolve
from limo_ray.core import config

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(<!-- not run: [^>]+ -->\n)?^```(\w*)\n(.*?)^```$", re.M | re.S)
COMMENT = re.compile(r"\s+#\s.*")


def commands(page: Path) -> list[str]:
    """Those to try, without comments, continued lines joined."""
    blocks = [block for mark, language, block in BLOCK.findall(page.read_text())
              if not mark and not language]  # fmt: skip
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in (COMMENT.sub("", line).strip() for line in lines) if line]


ALL = [(page, command) for page in PAGES for command in commands(page)]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the pages assume it: conf/, a file of problems, a run and a trained model."""
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    (tmp_path / "problems.jsonl").write_text('{"problem": "What is 3 + 4?", "answer": "7"}\n')
    run = tmp_path / "store/runs/laptop"
    run.mkdir(parents=True)
    chat = [{"role": "user", "content": "3 + 4?"}, {"role": "assistant", "content": "\\boxed{7}"}]
    (run / "examples.jsonl").write_text(json.dumps({"messages": chat}) + "\n")
    (run.parent / "mine").symlink_to(run)
    from limo_ray.storage import model_files

    (tmp_path / "store/models").mkdir()
    packaged = model_files.resolve("packaged/SmolLM2-135M-Instruct")
    for name in ("laptop", "mine"):
        (tmp_path / "store/models" / name).symlink_to(packaged)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.process
@pytest.mark.parametrize(("page", "command"), ALL, ids=[f"{p.stem}: {c[:60]}" for p, c in ALL])
def test_commands_of_the_pages_work(page: Path, command: str, workplace: Path) -> None:
    name, *argv = shlex.split(command)
    if name == "make":
        assert re.search(rf"^{argv[0]}:", (ROOT / "Makefile").read_text(), re.M)
        return
    if name == "python":
        assert (ROOT / argv[0]).is_file()
        name, argv = "limo-ray", [Path(argv[0]).stem, *argv[1:]]
    assert name == "limo-ray", f"{page.name}: {command!r} is neither tried nor marked as not run"
    if "--help" in argv:
        assert main(argv) == 0
        return
    tried = COMMANDS[argv[0]]
    if tried.schema:
        arguments = [argument for argument in argv[1:] if argument != "--dry-run"]
        loaded = config.load(named(tried.schema), resolve(tried.presets, arguments))
        assert named(tried.outline)(loaded, "cpu")


def test_the_pages_have_commands() -> None:
    assert len(ALL) > 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text()
    for name in re.findall(r"\b(?:conf|cluster|jobs|bench|limo_ray|tests)/[\w/.-]+\.\w+\b", text):
        assert (ROOT / name).exists() or name == "limo_ray/rl", name
