"""Fills the reference pages of the documentation from the schemas' own documentation.

mkdocs calls `on_page_markdown`. A line `::: keys curate` becomes a table of the keys of that job,
`::: commands` the list of all commands.
"""

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from limo_ray.cli.commands import COMMANDS, named
from limo_ray.cli.presets import presets, summary
from limo_ray.core.schema import keys


def on_page_markdown(markdown: str, **_: Any) -> str:
    markdown = re.sub(r"^::: keys (\w+)$", lambda match: _keys(match[1]), markdown, flags=re.M)
    return re.sub(r"^::: commands$", lambda _: _commands(), markdown, flags=re.M)


def _keys(job: str) -> str:
    rows = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    known = {key.path for key in keys(named(COMMANDS["curate"].schema)())} if job == "plan" else ()
    for key in keys(named(COMMANDS[job].schema)()):
        if key.path in known:  # a plan has all keys of a curation
            continue
        default = "required" if key.required else f"`{key.default}`" if key.default else ""
        cells = [f"`{key.path}`", key.type, default, key.doc]
        rows.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    """Text for a cell: outside of `code` nothing in it is markup."""
    pieces = " ".join(text.split()).replace("|", "\\|").split("`")
    pieces[::2] = [re.sub(r"([\\[\]<*_])(?!\|)", r"\\\1", piece) for piece in pieces[::2]]
    return "`".join(pieces)


def _commands() -> str:
    parts = []
    for name, command in COMMANDS.items():
        usage, *examples = command.usage.split("\n")
        lines = [
            f"## {name}",
            "",
            command.summary[0].upper() + command.summary[1:] + ".",
            "",
            "```",
        ]
        lines += [f"limo-ray {name} {usage}", *(f"limo-ray {name} {each}" for each in examples)]
        lines += ["```"]
        if command.schema:
            lines += ["", "| preset | content |", "| --- | --- |"]
            lines += [
                f"| `{preset}` | {_cell(summary(file))} |"
                for preset, file in presets(command.presets).items()
            ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
