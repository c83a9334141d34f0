"""Keys of a schema, and that each of ours is documented where it stands."""

from dataclasses import dataclass, field

import pytest

from limo_ray.cli.commands import COMMANDS, named
from limo_ray.core.schema import keys


@dataclass(kw_only=True)
class Inner:
    """What the inner one is for."""

    path: str = "???"
    """Where it lies."""


@dataclass(kw_only=True)
class Base:
    seed: int = 0
    """Of everything."""


@dataclass(kw_only=True)
class Outer(Base):
    names: list[str] = field(default_factory=list)
    """Two lines
    of text."""
    limit: int | None = None
    many: list[Inner] = field(default_factory=list)
    by_name: dict[str, Inner] = field(default_factory=dict)
    """Each with a name."""
    one: Inner = field(default_factory=lambda: Inner(path="here"))


def test_keys_have_types_defaults_and_the_string_that_follows_them() -> None:
    found = {key.path: (key.type, key.default, key.doc) for key in keys(Outer())}
    assert found == {
        "seed": ("int", "0", "Of everything."),
        "names": ("list of str", "[]", "Two lines\nof text."),
        "limit": ("int or null", "null", ""),
        "many[]": ("list of section", "", "What the inner one is for."),
        "many[].path": ("str", "", "Where it lies."),
        "by_name.NAME": ("mapping of section", "", "Each with a name."),
        "by_name.NAME.path": ("str", "", "Where it lies."),
        "one": ("section", "", "What the inner one is for."),
        "one.path": ("str", "here", "Where it lies."),
    }
    assert [key.path for key in keys(Outer()) if key.required] == [
        "many[].path",
        "by_name.NAME.path",
    ]


@pytest.mark.parametrize("job", [name for name, command in COMMANDS.items() if command.schema])
def test_every_key_of_a_job_is_documented(job: str) -> None:
    missing = [key.path for key in keys(named(COMMANDS[job].schema)()) if not key.doc]
    assert missing == []


@pytest.mark.parametrize("job", [name for name, command in COMMANDS.items() if command.schema])
def test_no_key_is_a_word_that_yaml_reads_as_true_or_false(job: str) -> None:
    words = {key.path.rpartition(".")[2] for key in keys(named(COMMANDS[job].schema)())}
    assert not words & {"on", "off", "yes", "no", "y", "n", "true", "false"}
