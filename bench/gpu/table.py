"""A table in Markdown from the results of bench/gpu/run.sh.

python -m bench.gpu.table FOLDER
"""

import json
import sys
from pathlib import Path
from typing import Any


def lines(folder: Path) -> list[dict[str, Any]]:
    """All lines of a folder's *.jsonl files, the machine's first.

    Raises:
        ValueError: no results, or a line that is no JSON, named by file and line.
    """
    found = []
    for file in sorted(
        folder.glob("*.jsonl"), key=lambda file: (file.stem != "machine", file.stem)
    ):
        for number, text in enumerate(file.read_text().splitlines(), 1):
            try:
                found.append(json.loads(text))
            except ValueError as error:
                raise ValueError(f"{file}:{number}: {error}") from None
    if not found:
        raise ValueError(f"{folder}: no results (*.jsonl)")
    return found


def table(found: list[dict[str, Any]]) -> str:
    """What ran, and each figure beside what it is compared with."""
    out: list[str] = []
    for line in found:
        if line["check"] == "machine":
            versions = ", ".join(f"{name} {one}" for name, one in line["versions"].items())
            machine = f"{line['card'] or line['machine']}; {versions}; {line['date']}"
            if machine not in out:
                out += [machine, ""]
            out += [f"`{line['command'].strip()}`", ""]
    out += ["| check | what | figure | beside | as it must be |", "| --- | --- | --- | --- | --- |"]
    for line in found:
        if "value" in line:
            beside = f"{line['peer']} ({line['peer_name']})" if "peer_name" in line else ""
            must = {True: "yes", False: "NO", None: ""}[line["ok"]]
            figure = f"{line['value']} {line['unit']}".strip()
            row = [line["check"], line["what"], figure, beside, must]
        elif "skipped" in line or "failed" in line:
            kind = "skipped" if "skipped" in line else "failed"
            row = [line["check"], f"{kind}: {line[kind]}", "", "", "NO" if kind == "failed" else ""]
        else:
            continue
        out.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |")
    return "\n".join(out)


if __name__ == "__main__":
    sys.stdout.write(table(lines(Path(sys.argv[1]))) + "\n")
