"""Attempts of others at the pool's problems, collected from a data set of generations.

    <store>/published/<fingerprint>-<pool>/part-*.parquet     rows of PUBLISHED, in the data's order

The fingerprint names the data set's files and columns, and with them the attempt log: what was
verified once is not verified again for another pool. A row belongs to the problem whose question
has the same hash. Whatever is wrong with a row is counted in the part's metadata.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from limo_ray.attempts.index import hex_to_uint64
from limo_ray.attempts.log import AttemptLog
from limo_ray.attempts.parts import read_table
from limo_ray.core.records import Verdict, fingerprint, problem_id
from limo_ray.curate.steps import Step
from limo_ray.engines.base import EngineConfig
from limo_ray.engines.published import GROUP_ROWS, PUBLISHED, PublishedIndex, id_keys
from limo_ray.engines.published_config import PublishedColumns, PublishedConfig
from limo_ray.problems import sources
from limo_ray.problems.columns import (
    InvalidRow,
    holds,
    lookup,
    plain_text,
    template_pieces,
    text_of,
)
from limo_ray.problems.mappings import Mapping
from limo_ray.problems.problem_rows import needed_columns
from limo_ray.problems.readers import File, Unreadable
from limo_ray.problems.sources import SourceConfig
from limo_ray.storage.store import Store, scan

VERSION = 1  # of what is made of the same data set
PARTS = 256  # at the most: an engine has them all open
COUNTS = b"limo_ray.counts"  # key in a part's metadata
SAID = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def attempts_fingerprint(name: str, config: PublishedConfig) -> str:
    """Names the attempt log of a data set's attempts: 16 hex digits.

    Args:
        name: of the engine.
        config: of its data set.

    Raises ValueError for a data set that is not found.
    """
    named, files = _files(name, config)
    signature = sources.files_signature(named, files)
    return fingerprint([signature, asdict(config.columns()), VERSION])


def fingerprints(engines: dict[str, EngineConfig]) -> dict[str, str]:
    """Of the data sets of all engines that have one, by the engine's name."""
    return {
        name: attempts_fingerprint(name, engine.published)
        for name, engine in engines.items()
        if engine.kind == "published"
    }


def _files(name: str, config: PublishedConfig) -> tuple[SourceConfig, list[File]]:
    fields = ("path", "format", "hub", "subset", "split", "revision")
    named = SourceConfig(**{field: getattr(config, field) for field in fields})
    try:
        return named, sources.files_of(named)
    except ValueError as error:
        raise ValueError(f"engines.{name}.published.{error}") from error


def collect(
    name: str, config: PublishedConfig, attempts: str, pool: Store, key: str, store: Store
) -> str:
    """Collects the attempts at a pool's live problems; returns the URI of their folder.

    Args:
        name: of the engine.
        config: of its data set.
        attempts: the data set's `attempts_fingerprint`.
        pool: folder of Parquet files with the columns id and reason.
        key: changes whenever the pool does.
        store: gets the folder; a part that is there is not made again.

    Raises:
        ValueError: a data set that is not found, or that has no attempt at any of the problems.
    """
    columns = config.columns()
    source = _source(_files(name, config)[1], columns)
    folder = store.within(f"published/{attempts}-{key}")
    items = sources.work_items([source])
    size = max(1, math.ceil(len(items) / PARTS))
    chunks = [items[begin : begin + size] for begin in range(0, len(items), size)]
    parts = {f"part-{number:05d}.parquet": chunk for number, chunk in enumerate(chunks)}
    Step(
        name="published",
        outputs=folder,
        items={part: (part, chunk) for part, chunk in parts.items()},
        run=lambda item: _collect_part(item[0], item[1], source, columns, pool, key, folder),
    ).finish()
    counts = counted(folder)
    if not counts["attempts"]:
        raise ValueError(
            f"engines.{name}.published: {config.label()} has no attempt at a problem of the pool: "
            f"{counts['rows']:,} rows read, {counts['unusable']:,} unusable"
            + (f" (such as {counts['example']})" if counts["example"] else "")
        )
    return folder.uri


def _source(files: list[File], columns: PublishedColumns) -> sources.Source:
    """The data set as a source, with a mapping that names all columns that are read."""
    paths = [
        path
        for template in [*columns.completions, *columns.correct]
        for path, is_path in template_pieces(template)
        if is_path
    ]
    mapping = Mapping(question=columns.question, where=columns.where, metadata=paths)
    return sources.Source(
        name="published", mapping=mapping, files=files, limit=0, kinds=[], settings={}, seed=0
    )


def _collect_part(
    part: str,
    items: list[sources.WorkItem],
    source: sources.Source,
    columns: PublishedColumns,
    pool: Store,
    key: str,
    folder: Store,
) -> int:
    """Writes one part; returns the rows that it read."""
    live = _live_problems(pool.uri, key)
    counts: Counter[str] = Counter()
    example = ""

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal example
        needed = needed_columns(source.mapping)
        for item in items:
            for file, result in sources.records(source, item, needed):
                counts["rows"] += 1
                try:
                    if isinstance(result, Unreadable):
                        raise result.error
                    found = _attempts(result.value, columns, live)
                except InvalidRow as error:
                    counts["unusable"] += 1
                    example = example or f"{file.name}:{result.line}: {error}"
                    continue
                counts["matched"] += bool(found)
                counts["attempts"] += len(found)
                for attempt in found:
                    yield attempt | {"file": file.name, "line": result.line}

    def groups() -> Iterator[pa.Table]:
        left = rows()
        while group := list(islice(left, GROUP_ROWS)):
            yield pa.Table.from_pylist(group, schema=PUBLISHED)

    def metadata() -> dict[bytes, str]:
        return {COUNTS: json.dumps({**counts, "example": example})}

    folder.write_tables(part, PUBLISHED, groups(), metadata)
    return counts["rows"]


def _attempts(record: Any, columns: PublishedColumns, live: np.ndarray) -> list[dict[str, Any]]:
    """Those of one row, none for a row that is not wanted; InvalidRow if it cannot be read."""
    if not all(holds(record, condition)[0] for condition in columns.where):
        return []
    id_ = problem_id(text_of(record, columns.question, "question"))
    high = np.uint64(int(id_[:16], 16))
    place = np.searchsorted(live, high)
    if place == len(live) or live[place] != high:
        return []
    found = []
    for number, template in enumerate(columns.completions):
        texts = _values(record, template, "completions")
        given = _values(record, columns.correct[number], "correct") if columns.correct else []
        # of another number of labels nobody knows which text each is of
        labels = given if len(given) == len(texts) else [None] * len(texts)
        for text, label in zip(texts, labels, strict=True):
            if text is None or (isinstance(text, str) and not text.strip()):
                continue
            text = plain_text(text, "completions")
            found.append({"problem_id": id_, "completion": text, "label": _label(label)})
    return found


def _values(record: Any, template: str, field: str) -> list[Any]:
    """What a column or template holds, as a list; none for null."""
    if "{" in template:
        return [text_of(record, template, field)]
    value = lookup(record, template, field)
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _label(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    said = SAID.get(str(value).strip().lower())
    if said is None:
        raise InvalidRow("correct", "neither true nor false", value)
    return said


@lru_cache(maxsize=1)
def _live_problems(pool: str, key: str) -> np.ndarray:
    """First halves of the live problems' ids, sorted, uint64; `key` is the pool's."""
    found = [np.zeros(0, np.uint64)]
    for batch in scan(Store(pool), ["id", "reason"]):
        live = batch.filter(pc.is_null(batch["reason"]))
        found.append(hex_to_uint64(live["id"], 2)[:, 0])
    return np.unique(np.concatenate(found))


def counted(folder: Store) -> dict[str, Any]:
    """Of a folder of attempts: rows, unusable, matched, attempts, and an example of an error."""
    counts: dict[str, Any] = {"rows": 0, "unusable": 0, "matched": 0, "attempts": 0, "example": ""}
    for name in folder.files(""):
        metadata = pq.read_metadata(folder.path(name), filesystem=folder.filesystem).metadata
        for field, value in json.loads(metadata[COUNTS]).items():
            counts[field] = counts[field] or value if field == "example" else counts[field] + value
    return counts


def statistics(config: PublishedConfig, attempts: str, store: Store) -> dict[str, Any]:
    """What the data set had, and how its labels compare with our verdicts, for the manifest.

    Args:
        config: of the data set, with the folder of its attempts.
        attempts: name of their attempt log.
        store: holds the log.
    """
    folder = Store(config.folder)
    index = PublishedIndex(folder)
    log = AttemptLog(store, attempts).folder
    table = read_table(store, log, ["problem_id", "index", "verdict"])
    keys = id_keys(table["problem_id"].combine_chunks())
    places = index.find(keys, table["index"].to_numpy())
    # an attempt that was verified again has several rows: the last one counts
    places, first = np.unique(places[::-1], return_index=True)
    verdicts = table["verdict"].to_numpy()[::-1][first]
    labels = np.where(places >= 0, index.labels[places], -1)
    label_counts = {
        f"{said}_{verdict}": int(np.sum((labels == value) & _is(verdicts, verdict)))
        for said, value in (("correct", 1), ("wrong", 0))
        for verdict in ("correct", "wrong", "unjudged")
    }
    return {
        "data": config.label(),
        **counted(folder),
        "problems": index.problems(),
        "labels": label_counts if any(label_counts.values()) else {},
    }


def _is(verdicts: np.ndarray, verdict: str) -> np.ndarray:
    if verdict == "unjudged":
        return ~np.isin(verdicts, [str(each) for each in Verdict if each.judged])
    found: np.ndarray = verdicts == verdict
    return found
