"""Files for contributors: that they are what their readers take, and name what is there."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent


def test_hooks_run_what_make_check_runs() -> None:
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in repo["hooks"]}
    check = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    assert hooks == set(re.findall(r"\$\(BIN\)/([\w-]+)", check))


def test_issue_forms_have_what_the_host_asks_for() -> None:
    for file in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(file.read_text())
        assert form.keys() >= {"name", "description", "body"}, file
        ids = [field["id"] for field in form["body"]]
        assert len(set(ids)) == len(ids), file
        assert all(field["attributes"]["label"] for field in form["body"]), file


def test_files_that_the_contributors_page_names_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"\]\(([\w/.-]+)\)|`((?:limo_ray|docs|\.ci|cluster)/[\w/.-]*)`", text)
    paths = [first or second for first, second in named]
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path).exists()] == []
