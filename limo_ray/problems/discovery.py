"""Finding the files of a source: globs over local and object storage, data sets on the hub."""

import os
import re
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs as pafs

from limo_ray.core import presets
from limo_ray.core.uris import open_uri, redact, split
from limo_ray.problems.readers import FORMATS, File, describe

_WILD = re.compile(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])")


def on_disk(path: str, format: str = "") -> list[File]:
    """The files that a path, folder or glob (local, s3://, gs://) names; ValueError for none.

    Files of a folder or glob with an unknown ending are left out, unless `format` is given.
    """
    found = find(path)
    if not found:
        raise ValueError(f"path: no file matches {redact(path)!r}")
    files = [file for name, uri in found if (file := describe(uri, name, format)) is not None]
    if not files:
        known = ", ".join(FORMATS)
        raise ValueError(f"format: the ending of {found[0][0]!r} is unknown, say one of {known}")
    return files


def find(path: str) -> list[tuple[str, str]]:
    """(name for the ledger, URI) of every file that a path, folder or glob names, sorted."""
    local = "://" not in path
    bare, query = (path, "") if local else split(path)
    pattern = os.path.abspath(Path(presets.found(bare)).expanduser()) if local else bare
    wild = _WILD.search(pattern)
    base = pattern[: wild.start()].rpartition("/")[0] if wild else pattern
    try:
        filesystem, root = open_uri((base or "/") + query)
        if wild and filesystem.get_file_info(root + pattern[len(base) :]).is_file:
            wild, root, base = None, root + pattern[len(base) :], pattern
        infos = [filesystem.get_file_info(root)]
        if infos[0].type == pafs.FileType.Directory:
            infos = filesystem.get_file_info(pafs.FileSelector(root, recursive=True))
    except (OSError, pa.ArrowException) as e:
        raise ValueError(f"path: cannot look for {redact(path)!r}: {e}") from e
    matches = re.compile(_glob(pattern[len(base) :])).fullmatch if wild else None
    start = os.getcwd() + "/" if local and not os.path.isabs(Path(bare).expanduser()) else ""
    found = []
    for info in infos:
        rest = info.path[len(root) :]
        hidden = os.path.basename(info.path).startswith((".", "_")) and not matches
        if info.is_file and (matches(rest) if matches else not (rest and hidden)):
            uri = base + (rest if local else quote(rest) + query)
            found.append((redact(base + rest).removeprefix(start), uri))
    return sorted(found)


def _glob(pattern: str) -> str:
    """A regular expression for a glob: `*` within a folder, `**` across folders."""
    special = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    texts = _WILD.split(pattern)
    return "".join(special.get(t, t if t[:1] == "[" else re.escape(t)) for t in texts)


def on_hub(hub: str, subset: str, split: str, revision: str, format: str = "") -> list[File]:
    """The data files of a split on the hub, which workers stream from there; ValueError for none.

    `subset` "" is the only or default one, "*" all of them; `revision` "" the newest.
    """
    from datasets import get_dataset_config_names, load_dataset_builder

    version = revision or None
    uris: list[str] = []
    try:
        subsets = [subset or None]
        if subset == "*":
            subsets = list(get_dataset_config_names(hub, revision=version))
        builders = [load_dataset_builder(hub, name, revision=version) for name in subsets]
    except (OSError, RuntimeError, ValueError) as e:
        raise ValueError(f"hub: cannot open {hub!r}: {e}") from e
    for builder in builders:
        by_split = {str(k): list(v) for k, v in (builder.config.data_files or {}).items()}
        if split not in by_split:
            known = ", ".join(by_split) or "none"
            raise ValueError(f"split: {split!r} is none of {known} in {hub!r}")
        uris += [uri for uri in by_split[split] if uri not in uris]
    described = [describe(uri, uri, format) for uri in uris]
    files = [file for file in described if file is not None]
    if len(files) < len(uris):
        raise ValueError(f"format: {hub!r} has files of no known format: {', '.join(uris[:3])}")
    return files
