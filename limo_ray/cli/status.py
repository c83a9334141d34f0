"""How a run stands, read from storage alone, while it runs and after it died.

    python jobs/status.py <store> [name] [--json]

Without a name a line for every run. Exit codes: 0 running or done, 1 died, failed or interrupted,
2 no such run (or a command that is none).
"""

import json
import sys

from limo_ray.core.uris import redact
from limo_ray.runs.status import WELL, details, line, runs, text
from limo_ray.storage.store import Store


def main(argv: list[str]) -> int:
    """Prints what the arguments ask for; returns the exit code."""
    as_json = "--json" in argv
    named = [argument for argument in argv if argument != "--json"]
    if not 1 <= len(named) <= 2 or named[0].startswith("-"):
        sys.stderr.write("usage: python jobs/status.py <store> [name] [--json]\n")
        return 2
    name = named[1] if len(named) == 2 else ""
    try:
        store = Store(named[0])
        found = runs(store, name)
        if name:
            found = [one | details(store, one) for one in found]
    except (OSError, ValueError) as error:
        sys.stderr.write(f"failed: {redact(str(error))}\n")
        return 2
    if not found:
        wanted = f"run {name!r}" if name else "run"
        sys.stderr.write(f"no {wanted} in {Store(named[0]).shown}\n")
        return 2
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2, default=str) + "\n")
    else:
        sys.stdout.write("\n".join((text if name else line)(one) for one in found) + "\n")
    return 0 if all(one["status"] in WELL for one in found) else 1
