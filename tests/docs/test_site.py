"""The documentation as a site: its links hold, its reference has every key, nothing is fetched."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder)))  # strict: a bad link raises
    return folder


def test_every_page_is_in_the_navigation(site: Path) -> None:
    navigation = (ROOT / "mkdocs.yml").read_text().partition("nav:")[2]
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert pages == set(re.findall(r"[\w/-]+\.md", navigation))


def test_the_reference_has_every_key_and_command(site: Path) -> None:
    config = (site / "reference/config/index.html").read_text()
    for key in ("difficulty.strong.rule.budget", "zero.stage", "gate.rpm", "cluster.nodes.NAME"):
        assert f"<code>{key}" in config
    commands = (site / "reference/cli/index.html").read_text()
    assert "limo-ray curate laptop seed=3" in commands and "limo-ray textbook" in commands


def test_no_page_loads_anything_from_a_network(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|link|img)[^>]+(?:src|href)=\"?(https?://[^\s\">]+)", page.read_text()
        )
        assert not loaded, page
