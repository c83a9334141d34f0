"""Numbers, durations and first lines of messages, as people read them."""


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
