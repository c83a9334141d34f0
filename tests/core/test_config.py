"""Every mistake in a config is one line that says where and what."""

from pathlib import Path

import pytest

from limo_ray.core import config
from limo_ray.curate.config import CurateConfig
from limo_ray.evaluate.config import EvaluateConfig
from limo_ray.plan.config import PlanConfig
from limo_ray.rl.config import RLConfig
from limo_ray.serve.config import ServeConfig
from limo_ray.study.config import StudyConfig
from limo_ray.train.config import TrainConfig

ROOT = Path(__file__).parents[2]
LAPTOP = str(ROOT / "conf/curate/laptop.yaml")
SCHEMAS = {
    "curate": CurateConfig,
    "evaluate": EvaluateConfig,
    "rl": RLConfig,
    "serve": ServeConfig,
    "study": StudyConfig,
    "train": TrainConfig,
}


def load(*argv: str) -> CurateConfig:
    return config.load(CurateConfig, [LAPTOP, *argv])


def refused(*argv: str) -> str:
    with pytest.raises(config.ConfigError) as caught:
        load(*argv)
    assert "\n" not in str(caught.value)
    return str(caught.value)


WHOLE = [preset for folder in SCHEMAS for preset in sorted(ROOT.glob(f"conf/{folder}/*.yaml"))]


@pytest.mark.parametrize("preset", WHOLE, ids=lambda p: f"{p.parent.name}-{p.name}")
def test_every_preset_loads_against_its_schema(preset: Path) -> None:
    loaded = config.load(SCHEMAS[preset.parent.name], [str(preset)])
    again = preset.parent.parent / preset.name
    assert loaded.name == again.stem


def test_presets_of_a_plan_go_over_a_curation() -> None:
    folders = {folder.name for folder in (ROOT / "conf").iterdir()}
    assert folders == {*SCHEMAS, "plan"}, "a folder whose presets no test loads"
    for preset in (ROOT / "conf/plan").glob("*.yaml"):
        loaded = config.load(PlanConfig, [str(ROOT / "conf/curate" / preset.name), str(preset)])
        assert loaded.name == preset.stem
        assert loaded.assume.speeds.keys() <= loaded.engines.keys()


def test_a_resolved_config_is_a_preset_that_gives_itself(tmp_path: Path) -> None:
    loaded = load("seed=5")
    file = tmp_path / "resolved.yaml"
    file.write_text(config.as_yaml(loaded))
    assert config.load(CurateConfig, [str(file)]) == loaded


def test_later_files_and_overrides_win(tmp_path: Path) -> None:
    file = tmp_path / "more.yaml"
    file.write_text("seed: 4\nselection: {k: 9}\n")
    loaded = config.load(CurateConfig, [LAPTOP, str(file), "selection.k=11"])
    assert (loaded.seed, loaded.selection.k, loaded.selection.method) == (4, 11, "limo")


def test_lists_dicts_and_nulls_can_be_overridden() -> None:
    loaded = load("sources[0].gym.gcd=5", "difficulty.weak=null", "engines.smollm2.max_num_seqs=8")
    assert loaded.sources[0].gym["gcd"] == 5
    assert loaded.difficulty.weak is None
    assert loaded.engines["smollm2"].max_num_seqs == 8


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sede=1", ["sede", "unknown key", "did you mean seed"]),
        ("difficulty.strong.rule.keep_mim=1", ["difficulty.strong.rule.keep_mim", "keep_min"]),
        ("seed=abc", ["seed", "abc"]),
        ("difficulty.overlap=7.5", ["difficulty.overlap", "7.5"]),
        ("difficulty.strong.rule.keep_min=4", ["difficulty.strong.rule.keep_min", "4", "keep_max"]),
        ("quality.elaborated.weight=0.4", ["quality.weights", "0.4", "add up to 1"]),
        ("engines.smollm2.model=./no/such/folder", ["engines.smollm2.model", "./no/such/folder"]),
        ("difficulty.strong.engine=big", ["difficulty.strong.engine", "big", "smollm2"]),
        ("difficulty.strong.sampling.max_tokens=9999", ["difficulty.strong.sampling", "9999"]),
        ("sources=[]", ["sources"]),
        ("sources[0].gym.no_such_kind=3", ["sources[0]", "no_such_kind"]),
        ("sources[9].limit=3", ["sources[9]"]),
        ("selection.k=0", ["selection.k", "0"]),
        ("chains.think=maybe", ["chains.think", "maybe"]),
    ],
)
def test_mistakes_on_the_command_line(override: str, words: list[str]) -> None:
    message = refused(override)
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed: 1\nnmae: x\n", [":2: ", "nmae", "did you mean name"]),
        ("difficulty:\n  strong:\n    rule:\n      budget: many\n", [":4: ", "many"]),
        ("selection:\n  k: 5\n  method: best\n", [":3: ", "selection.method", "best"]),
        ("seed: [1\n", ["not YAML"]),
        ("- a\n- b\n", ["mapping"]),
    ],
)
def test_mistakes_in_a_file_name_its_line(tmp_path: Path, text: str, words: list[str]) -> None:
    file = tmp_path / "more.yaml"
    file.write_text(text)
    with pytest.raises(config.ConfigError) as caught:
        config.load(CurateConfig, [LAPTOP, str(file)])
    message = str(caught.value)
    assert message.startswith(str(file))
    for word in words:
        assert word in message, message


def test_a_missing_file_is_named() -> None:
    with pytest.raises(config.ConfigError, match=r"^no\.yaml: no such preset"):
        config.load(CurateConfig, ["no.yaml"])


@pytest.mark.parametrize("spelling", ["near: {on: false}\n", "near: {'on': false}\n"])
def test_a_renamed_key_is_told_with_its_new_name(tmp_path: Path, spelling: str) -> None:
    """YAML reads a bare key on as True."""
    file = tmp_path / "old.yaml"
    file.write_text(spelling)
    with pytest.raises(config.ConfigError, match=r"unknown key: it is called drop now$"):
        config.load(CurateConfig, [str(file)])
