"""Where presets and the files beside them are: in a checkout, or inside the installed package."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
# a wheel has the presets inside the package, a checkout beside it
FOLDER = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"


def found(path: str) -> str:
    """The path, or ours for a `conf/...` that is not below the working folder."""
    ours = FOLDER.parent / path
    return str(ours) if path.startswith("conf/") and not Path(path).exists() else path
