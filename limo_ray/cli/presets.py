"""Presets by their short names: `laptop` is conf/curate/laptop.yaml for a curation."""

import difflib
from collections.abc import Iterable
from pathlib import Path

from limo_ray.core.config import ConfigError
from limo_ray.core.presets import FOLDER


def presets(jobs: Iterable[str]) -> dict[str, Path]:
    """The files of some folders of conf/, by name; `plan/laptop` where two folders have one."""
    found: dict[str, Path] = {}
    for job in jobs:
        for file in sorted((FOLDER / job).glob("*.yaml")):
            found[file.stem if file.stem not in found else f"{job}/{file.stem}"] = file
    return found


def summary(preset: Path) -> str:
    """The first sentence of the comment at its top."""
    lines = []
    for line in preset.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.strip("# "))
    return " ".join(lines).partition(". ")[0].rstrip(".")


def resolve(jobs: Iterable[str], argv: list[str]) -> list[str]:
    """Arguments with the paths of presets for their names; files and key=value stay.

    Raises:
        ConfigError: a name that no preset has.
    """
    known = presets(jobs)
    resolved = []
    for argument in argv:
        if "=" in argument or argument.endswith((".yaml", ".yml")):
            resolved.append(argument)
        elif argument in known:
            resolved.append(str(known[argument]))
        else:
            near = difflib.get_close_matches(argument, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(
                f"{argument}: no such preset: they are {', '.join(known)}{hint} "
                "(a file of your own ends with .yaml)"
            )
    return resolved
