"""Checks of config values: a ValueError begins with the field that is wrong."""


def check_one_of(field: str, value: str, known: tuple[str, ...]) -> None:
    """Raises ValueError that names the field, unless the value is one of those known."""
    if value not in known:
        raise ValueError(f"{field}: {value!r} is none of {', '.join(known)}")


def check_at_least(field: str, value: float, least: float) -> None:
    """Raises ValueError that names the field, unless the value is at least so large."""
    if not value >= least:
        raise ValueError(f"{field}: {value} must be at least {least}")


def check_between(field: str, value: float, low: float, high: float) -> None:
    """Raises ValueError that names the field, unless low <= value <= high."""
    if not low <= value <= high:
        raise ValueError(f"{field}: {value} must be between {low} and {high}")


def check_folder_name(name: str) -> None:
    """Raises ValueError, beginning with "name: ", unless a run may be called so.

    The name is a folder of the store: `.` and `..` would be others, on some stores a leading dot
    hides it, and a slash makes several.
    """
    if not name or name.startswith(".") or "/" in name or not name.isprintable() or len(name) > 200:
        raise ValueError(
            f"name: {name!r} must be a folder name: printable, at most 200 characters, without a "
            "slash or a leading dot"
        )
