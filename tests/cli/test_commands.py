"""The command `limo-ray`: help, mistakes, presets by name, completion."""

import subprocess
import sys
from pathlib import Path

import pytest

from limo_ray.cli import completion
from limo_ray.cli.commands import COMMANDS, main, named
from limo_ray.cli.presets import presets, resolve
from limo_ray.core.config import ConfigError, load

ROOT = Path(__file__).parents[2]


def test_presets_have_short_names() -> None:
    assert resolve(("curate",), ["laptop", "seed=3"]) == [
        str(ROOT / "conf/curate/laptop.yaml"), "seed=3",
    ]  # fmt: skip
    assert resolve(("curate",), ["my/own.yaml"]) == ["my/own.yaml"]
    both = presets(("curate", "plan"))
    assert both["laptop"] != both["plan/laptop"]


def test_a_preset_that_is_none_is_told_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"labtop: no such preset: .*limo.*did you mean laptop\?"):
        resolve(("curate",), ["labtop"])


def test_mistakes_are_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curat"]) == 2
    assert capsys.readouterr().err == (
        "curat: unknown command, did you mean curate? (limo-ray --help lists them)\n"
    )
    assert main(["train", "labtop"]) == 2
    assert "did you mean laptop?" in capsys.readouterr().err
    assert main(["setup", "gpu"]) == 2
    assert capsys.readouterr().err == "usage: limo-ray setup cpu\n"


@pytest.mark.parametrize("job", COMMANDS)
def test_every_command_has_help(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([job, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"limo-ray {job}: {COMMANDS[job].summary}.\n\nusage: limo-ray {job}")
    assert max(map(len, shown.partition("\nkeys")[2].splitlines() or [""])) <= 160


# those of plan are those of curate
JOBS = [(job, preset) for job in COMMANDS if job != "plan"
        for preset in presets(COMMANDS[job].presets)]  # fmt: skip


@pytest.mark.parametrize(("job", "preset"), JOBS)
def test_every_preset_says_what_it_needs_from_elsewhere(job: str, preset: str) -> None:
    command = COMMANDS[job]
    needed = load(named(command.schema), resolve(command.presets, [preset])).inputs()
    assert needed
    assert {"generator", "package", "hub", "file", "github"} >= {each.place for each in needed}


def test_help_of_one_section(capsys: pytest.CaptureFixture[str]) -> None:
    main(["curate", "--help", "difficulty"])
    shown = [line for line in capsys.readouterr().out.splitlines() if line[2:3] != " "]
    assert "  difficulty.stop_after_kept: int = 0" in shown
    assert all(line.startswith("  difficulty") for line in shown)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["cur"], {"curate"}),
        (["curate", "lim"], {"limo", "limo_v1"}),
        (["curate", "laptop", "se"], {"seed="}),
        (["curate", "difficulty.st"], {"difficulty.strong.engine=", "difficulty.stop_after_kept="}),
        (["status", ""], set()),
        (["nonsense", ""], set()),
    ],
)
def test_words_are_completed(words: list[str], offered: set[str]) -> None:
    found = set(completion.candidates(COMMANDS, words))
    assert found >= offered
    assert bool(found) == bool(offered)
    assert all(each.startswith(words[-1]) for each in found)


@pytest.mark.process
def test_bash_completes_with_the_script() -> None:
    """The real shell, with the command replaced by this interpreter's."""
    script = completion.SCRIPTS["bash"]
    run = f"{sys.executable} -c 'import sys; from limo_ray.cli.commands import main; main()'"
    test = f"""{script}
limo-ray() {{ {run} "$@"; }}
COMP_WORDS=(limo-ray curate lapt) COMP_CWORD=2
_limo_ray 2>/dev/null; printf '%s,' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", test], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "laptop,"


def test_the_status_of_no_store_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["status", str(tmp_path)]) == 2
    assert "no run in" in capsys.readouterr().err
