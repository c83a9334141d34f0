"""Numbers, durations, first lines of messages and likely misspellings, as people read them."""

import difflib
from collections.abc import Iterable


def number(value: float | None) -> str:
    """A count with thousands separators, from ten million on as "12.3M", "4.56G" or "7.89T"; a
    fraction with three digits; a dash for None."""
    if value is None:
        return "–"  # noqa: RUF001
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if abs(value) >= max(size, 1e7):
            return f"{value / size:.3g}{unit}"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """Seconds as "6 min 12 s"; a dash for None."""
    if seconds is None:
        return "–"  # noqa: RUF001
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def first_line(error: BaseException | str) -> str:
    """The first line of a message; the type's name for an error that has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ ", did you mean X?" with the known name that is nearest; "" where none is near."""
    by_lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f", did you mean {by_lower[near[0]]}?" if near else ""
