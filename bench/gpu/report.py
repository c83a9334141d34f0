"""A check's results: lines of JSON on stdout, each as soon as it is known."""

import json
import math
import sys
import time
from typing import Any

BEGUN = time.time()


def result(
    check: str, what: str, value: Any, unit: str = "", *, ok: bool | None = None, **details: Any
) -> None:
    """One figure.

    Args:
        check: as bench/gpu/run.sh names it.
        value: a number, or a short text.
        ok: whether it is as it must be; None where there is nothing to compare with.
        details: among them `peer` and `peer_name`: the figure of what it is compared with.
    """
    if isinstance(value, float):
        value = float(f"{value:.4g}") if math.isfinite(value) else str(value)
    line = {"check": check, "what": what, "value": value, "unit": unit, "ok": ok}
    line |= details | {"at": round(time.time() - BEGUN, 1)}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def skipped(check: str, why: str) -> None:
    """A check, or a part of one, that cannot be made here."""
    sys.stdout.write(json.dumps({"check": check, "skipped": why}) + "\n")
    sys.stdout.flush()
