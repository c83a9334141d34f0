"""The text of `limo-ray --help` and `limo-ray <command> --help [section]`."""

import shutil
import textwrap
from typing import TYPE_CHECKING

from limo_ray.cli.presets import presets, summary
from limo_ray.core.schema import Key, keys

if TYPE_CHECKING:
    from limo_ray.cli.commands import Command


def overview(commands: "dict[str, Command]") -> str:
    """All commands, a line each."""
    lines = ["limo_ray: find the few hundred examples that teach a model to reason.", ""]
    lines += [f"  limo-ray {name:<11} {command.summary}" for name, command in commands.items()]
    lines += [
        "",
        "limo-ray <command> --help    presets, and every key with its default and meaning",
        "limo-ray <command> --dry-run the resolved config and what would be done",
        "limo-ray <command> --check   and whether models, sources and benchmarks can be had",
    ]
    return "\n".join(lines)


def details(name: str, command: "Command", about: str = "") -> str:
    """How a command is used; for a job its presets and keys, or those below `about` alone."""
    usage, *examples = command.usage.split("\n")
    lines = [f"limo-ray {name}: {command.summary}.", "", f"usage: limo-ray {name} {usage}"]
    lines += [f"       limo-ray {name} {example}" for example in examples]
    if not command.schema:
        return "\n".join(lines)
    from limo_ray.cli.commands import named

    found = list(keys(named(command.schema)()))
    if about:
        found = [key for key in found if key.path.startswith(about)]
        return "\n".join(_keys(found) if found else [f"{about}: no such key of {name}"])
    known = presets(command.presets)
    width = max(map(len, known), default=0)
    lines += ["", "presets (several are merged from left to right; a path to YAML is one, too)"]
    lines += [f"  {each:<{width}}  {summary(file)}" for each, file in known.items()]
    lines += ["", "keys (key=value; a place in a list: sources[0].path=...)"]
    return "\n".join([*lines, *_keys(found)])


def _keys(found: list[Key]) -> list[str]:
    """Each key with type, default and meaning; a schema that comes again is named, not repeated."""
    columns = min(100, max(60, shutil.get_terminal_size().columns))
    lines: list[str] = []
    first: dict[str, str] = {}
    repeated: tuple[str, ...] = ()
    for key in found:
        if key.path.startswith(repeated):
            continue
        doc = key.doc
        same = repr(key.section)  # the schema and its defaults
        if key.section and same in first:
            repeated += (key.path + ".",)
            doc += f" Keys as below {first[same]}."
        elif key.section:
            first[same] = key.path
        value = " (required)" if key.required else f" = {key.default}" if key.default else ""
        if len(value) > columns // 2:
            value = value[: columns // 2] + "..."
        lines.append(f"  {key.path}: {key.type}{value}".replace("\n", " "))
        indent = " " * 6
        lines += textwrap.wrap(doc, columns, initial_indent=indent, subsequent_indent=indent)
    return lines
