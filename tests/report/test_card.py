"""The dataset card: its front matter is YAML that the hub takes, and the folder loads by it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from limo_ray.report import render_card
from tests.report.sample_run import HOSTILE, paths, sample_run, without, write


def front(card: str) -> dict[str, Any]:
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("---\n")[1])


def test_front_matter() -> None:
    manifest, counts, examples, _ = sample_run()
    assert front(render_card(manifest, counts, examples)) == {
        "pretty_name": "laptop-demo",
        "license": "apache-2.0",
        "language": ["en"],
        "task_categories": ["text-generation"],
        "size_categories": ["n<1K"],
        "tags": ["reasoning", "chain-of-thought", "limo"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "examples.parquet"}],
            }
        ],
    }


def test_no_licence_is_other_and_said() -> None:
    card = render_card({}, [], [])
    assert front(card)["license"] == "other"
    assert "No licence was configured" in card


def test_size_category_follows_the_number_of_examples() -> None:
    examples = sample_run()[2]
    assert front(render_card({}, [], (examples * 50)[:999]))["size_categories"] == ["n<1K"]
    assert front(render_card({}, [], (examples * 50)[:1000]))["size_categories"] == ["1K<n<10K"]


def test_counts_in_the_card_add_up() -> None:
    manifest, counts, examples, _ = sample_run()
    card = render_card(manifest, counts, examples)
    table = card.split("## Where every row went")[1].split("\n\n")[1]
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    numbers = [int(r[2].strip("*\N{MINUS SIGN}").replace(",", "")) for r in rows]
    assert numbers[0] == manifest["counts"]["input"] == sum(numbers[1:])
    assert numbers[-1] == len(examples)
    for fingerprint in manifest["fingerprints"].values():
        assert fingerprint in card


def test_hostile_text_breaks_neither_front_matter_nor_tables() -> None:
    manifest, counts, examples, _ = sample_run()
    manifest["name"] = manifest["shortfall"] = HOSTILE + '"\n---\nlicense: mit | `'
    manifest["sampling"][0]["model"] = "a|b\n<script>"
    for row in counts:
        row["reason"] = row["reason"] and "x|y\n<img>"
    card = render_card(manifest, counts, examples)
    card.encode("utf-8")
    meta = front(card)
    assert meta["license"] == "apache-2.0"
    assert "alert(1)" in meta["pretty_name"]
    assert "<script>" not in card.split("---\n", 2)[2] and "<img>" not in card
    for line in card.splitlines():
        if line.startswith("| weak"):
            assert line.replace("\\|", "").count("|") in (4, 9)


@pytest.mark.parametrize("path", [(), *paths(sample_run(rows=60, k=3)[0])], ids=str)
def test_any_key_may_be_missing(path: tuple[Any, ...]) -> None:
    manifest, counts, examples, _ = sample_run(rows=60, k=3)
    manifest = without(manifest, path) if path else {}
    front(render_card(manifest, counts, examples[:1]))


def test_load_dataset_takes_the_parquet_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    run = sample_run()
    write(tmp_path / "run", run)
    loaded = datasets.load_dataset(str(tmp_path / "run"), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    examples = run[2]
    assert loaded["train"].num_rows == len(examples)
    assert set(loaded["train"].column_names) == set(examples[0])
    assert loaded["train"][0]["messages"] == examples[0]["messages"]
