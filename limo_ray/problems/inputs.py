"""What a job needs from elsewhere, and whether it can be had: one table, for a dry run.

show(config.inputs(), check=False)      looks at this machine and the store only
show(config.inputs(), check=True)       asks the hub and the files' servers too
"""

import re
from dataclasses import dataclass, replace

from limo_ray.core.console import say
from limo_ray.core.text import first_line
from limo_ray.core.uris import redact
from limo_ray.problems import discovery
from limo_ray.problems.benchmarks import BENCHMARKS, local
from limo_ray.problems.chats import is_on_hub
from limo_ray.problems.sources import SourceConfig
from limo_ray.storage import hub, model_files, pinned_files
from limo_ray.storage.pinned_files import GITHUB, PinnedFile
from limo_ray.storage.store import Store

COMMIT = re.compile("[0-9a-f]{40}")
TITLES = ("what", "name", "from", "revision", "there", "licence")


@dataclass(frozen=True, kw_only=True, slots=True)
class Input:
    """One source, model, benchmark or data set: `place` says where it comes from.

    place: hub (name is a repository there), file (name is a path), github, generator or package.
    """

    what: str
    name: str
    place: str
    revision: str = ""
    file: PinnedFile | None = None
    store: str = ""
    """May have `file` already."""
    mirror: str = GITHUB
    """Where `file` comes from else."""
    title: str = ""
    """What the table calls it; the name when empty."""

    @property
    def repository(self) -> str:
        """Its kind on the hub."""
        return "model" if self.what == "model" else "dataset"


def of_source(source: SourceConfig, what: str = "source") -> Input:
    if source.gym:
        return Input(what=what, name=source.label(), place="generator")
    if source.hub:
        return Input(what=what, name=source.hub, place="hub", revision=source.revision)
    return Input(what=what, name=source.path, place="file", title=source.label())


def of_model(name: str, revision: str = "") -> Input:
    if name == model_files.PACKAGED:
        return Input(what="model", name=name, place="package")
    place = "file" if model_files.is_local(name) else "hub"
    return Input(what="model", name=name, place=place, revision=revision)


def of_data(name: str, revision: str = "") -> Input:
    """The examples of a training."""
    place = "hub" if is_on_hub(name) else "file"
    return Input(what="data", name=name, place=place, revision=revision)


def of_benchmark(name: str, folder: str, store: str, mirror: str, revision: str = "") -> Input:
    """One of BENCHMARKS, with the settings that say where its items come from."""
    known = BENCHMARKS[name]
    if path := folder and local(folder, name):
        return Input(what="benchmark", name=path, place="file", title=name)
    if known.hub:
        revision = revision or known.revision
        return Input(what="benchmark", name=known.hub, place="hub", revision=revision, title=name)
    assert known.file is not None  # a test sees to it
    return Input(
        what="benchmark", name=known.file.repository, place="github", file=known.file,
        revision=known.file.commit, store=store, mirror=mirror, title=name,
    )  # fmt: skip


def show(inputs: list[Input], *, check: bool) -> bool:
    """Prints the table; returns whether nothing is known to be missing.

    Args:
        check: also asks the hub and the servers of files.
    """
    rows = [TITLES]
    missing: dict[str, str] = {}
    for each in dict.fromkeys(inputs):
        there, found = _state(each, check=check)
        if there.startswith("no: "):
            missing[each.title or each.name] = there.removeprefix("no: ")
            there = "no"
        revision = each.revision
        if each.place == "hub" and not revision:
            revision = f"not pinned{f', now {found.commit}' if found.commit else ''}"
        if COMMIT.fullmatch(revision):
            revision = revision[:12]
        title = f"{each.title} ({each.name})" if each.title and each.place == "hub" else each.title
        rows.append((each.what, redact(title or each.name), each.place, revision or "-", there,
                     found.licence or "-"))  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(TITLES) - 1)]
    lines = [
        "  ".join(
            [*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]
        )
        for row in rows
    ]
    say("\n# inputs\n" + "\n".join(lines))
    if missing:
        say(f"{len(missing)} of {len(rows) - 1} inputs cannot be had")
        say("\n".join(f"  {redact(name)}: {why}" for name, why in missing.items()))
    elif not check:
        say("--check asks the hub and the servers of files, and prints the revisions to pin")
    return not missing


def _state(each: Input, *, check: bool) -> tuple[str, hub.Repository]:
    """Whether an input is there ("no: why" where it is not), and what the hub says of it."""
    nothing = hub.Repository(commit="", licence="")
    if each.place == "hub":
        return _on_hub(each, check=check)
    if each.place == "github":
        assert each.file is not None
        known = replace(nothing, licence=each.file.licence)
        if each.file.is_in(Store(each.store)):
            return "in the store", known
        if not check:
            return "not looked", known
        why = pinned_files.head(each.file.url(each.mirror))
        return (f"no: {why}" if why else "yes"), known
    if each.place == "generator":
        return "made here", nothing
    if each.place == "package":
        return ("yes" if model_files.has_package() else "no: make setup installs it"), nothing
    if "://" in each.name and not check:
        return "not looked", nothing
    try:
        if each.what == "model":
            model_files.resolve(each.name, weights=False)
        elif each.what == "adapter":
            model_files.resolve_adapter(each.name)
        else:
            discovery.on_disk(each.name)
    except ValueError as error:
        return f"no: {first_line(error)}", nothing
    return "yes", nothing


def _on_hub(each: Input, *, check: bool) -> tuple[str, hub.Repository]:
    cached = hub.is_cached(each.name, each.repository, each.revision)
    nothing = hub.Repository(commit="", licence="")
    if not check:
        return ("cached" if cached else "not looked"), nothing
    try:
        found = hub.look(each.name, each.repository, each.revision)
    except ValueError as error:
        return ("cached" if cached else f"no: {error}"), nothing
    return ("cached" if cached else "yes"), found
