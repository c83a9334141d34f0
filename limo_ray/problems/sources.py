"""Sources: files, data sets of the hub and generators become one pool of problems.

    opened = open_sources([SourceConfig(path="data/*.jsonl", mapping="gsm8k"),
                           SourceConfig(gym={"gcd": 1000})])
    for item in work_items(opened):
        found = rows(opened, item)

A work item is what one task reads: a row group of Parquet, some 32 MB of a JSONL file, some chunks
of generated problems; a packed file, a CSV file, a JSON array and a source with a `limit` are one
item each. Every record becomes one row of the pool, whatever is wrong with it.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import version
from typing import Any, NamedTuple

import pyarrow as pa

from limo_ray.core.checks import check_at_least
from limo_ray.core.records import POOL, problem_id
from limo_ray.core.uris import redact
from limo_ray.problems import discovery, readers
from limo_ray.problems import gym as generator
from limo_ray.problems.columns import InvalidRow, parse_condition
from limo_ray.problems.mappings import READY, Mapping
from limo_ray.problems.problem_rows import EXTRACT, empty_row, invalid, needed_columns, pool_row
from limo_ray.problems.readers import WHOLE, Record, Span, Unreadable

SPAN_BYTES = 32 * 2**20  # of JSONL in one work item
MADE = 8 * generator.CHUNK  # generated problems in one
CUTTERS = 16  # files that are cut at once
ROWS, CHARACTERS = 1_000, 4_000_000  # of one table that a work item gives
DOMAINS = ("", "math", "choice", "countdown", "gym", "code")


@dataclass(kw_only=True, slots=True)
class SourceConfig(Mapping):
    """One source of problems: exactly one of `path`, `hub` and `gym`, and what its columns mean."""

    name: str = ""
    """Named in every row and in the ledger; made from path, hub or "gym" when empty."""
    path: str = ""
    """File, folder or glob (`*`, `**`, `?`), local or s3:// or gs://."""
    format: str = ""
    """parquet, jsonl, json or csv (also .gz and .zst); from the ending when empty."""
    hub: str = ""
    """Id of a data set on the Hugging Face hub."""
    subset: str = ""
    """Its configuration; "*" takes all of them."""
    split: str = "train"
    """Its split."""
    revision: str = ""
    """Its branch, tag or commit; the newest when empty."""
    gym: dict[str, int] = field(default_factory=dict)
    """Kinds of reasoning_gym, each with a number of rows."""
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Settings of these kinds, by kind: {gcd: {max_value: 100}}."""
    seed: int | None = None
    """Seed of `gym`; the run's own when null."""
    mapping: str = ""
    """A ready mapping (limo_ray.problems.mappings.READY); what is given below goes before it."""
    limit: int = 0
    """At most this many rows, the first by file and line, read by one task; `not_selected` rows do
    not count. 0 reads all."""

    def label(self) -> str:
        """The name, or one made from where the problems are."""
        stem = re.split(r"[*?\[]", self.path)[0].rstrip("/").rpartition("/")[2]
        return self.name or self.hub or ("gym" if self.gym else stem.partition(".")[0]) or self.path

    def mapped(self) -> Mapping:
        """The ready mapping with what is given here laid over it."""
        given = {f.name: getattr(self, f.name) for f in fields(Mapping) if getattr(self, f.name)}
        ready = READY[self.mapping] if self.mapping else Mapping()
        if {"answer", "solution"} & set(given):
            ready = replace(ready, answer="", solution="", answer_from="")
        return replace(ready, **given)

    def check(self) -> None:
        """ValueError, beginning with the field's name, when this cannot be a source."""
        given = [name for name in ("path", "hub", "gym") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"path: give exactly one of path, hub, gym, got {given or 'none'}")
        check_at_least("limit", self.limit, 0)
        if self.gym:
            self._check_gym()
            return
        if self.settings:
            raise ValueError(f"settings: only for gym, got {self.settings}")
        if self.format not in ("", *readers.FORMATS):
            known = ", ".join(readers.FORMATS)
            raise ValueError(f"format: {self.format!r} is none of {known}")
        if self.mapping and self.mapping not in READY:
            known = ", ".join(READY)
            raise ValueError(f"mapping: {self.mapping!r} is none of {known}")
        self._check_mapping(self.mapped())

    def _check_gym(self) -> None:
        unused = [f.name for f in fields(Mapping) if getattr(self, f.name)]
        unused += [name for name in ("mapping", "format", "limit") if getattr(self, name)]
        if unused:
            raise ValueError(f"{unused[0]}: not used with gym, got {getattr(self, unused[0])!r}")
        generator.check(self.gym, self.settings)

    def _check_mapping(self, mapping: Mapping) -> None:
        if not mapping.question:
            raise ValueError("question: which column? Give it, or a ready mapping")
        if mapping.unanswered and mapping.domain not in ("", "math"):
            raise ValueError(f"unanswered: not for domain {mapping.domain!r}, for math only")
        none = not mapping.answer and not mapping.solution
        if bool(mapping.answer) == bool(mapping.solution) and not (none and mapping.unanswered):
            got = f"{mapping.answer!r} and {mapping.solution!r}" if mapping.answer else "none"
            raise ValueError(f"answer: give one of answer and solution, got {got}")
        if mapping.answer_from not in EXTRACT:
            known = ", ".join(name for name in EXTRACT if name)
            raise ValueError(f"answer_from: {mapping.answer_from!r} is none of {known}")
        if mapping.solution and not mapping.answer_from:
            raise ValueError(f"answer_from: how is the answer taken from {mapping.solution!r}?")
        if mapping.domain not in DOMAINS:
            raise ValueError(f"domain: {mapping.domain!r} is none of {', '.join(DOMAINS[1:])}")
        if mapping.options and mapping.domain != "choice":
            raise ValueError(f"domain: {mapping.domain!r} has no options, choice has")
        for i, condition in enumerate(mapping.where):
            try:
                parse_condition(condition)
            except ValueError as e:
                raise ValueError(f"where[{i}]: {e}") from None


@dataclass(kw_only=True, slots=True)
class Source:
    """A source found to exist: what to read, and how rows are made of it."""

    name: str
    mapping: Mapping
    files: list[readers.File]
    limit: int
    kinds: list[tuple[str, int]]
    settings: dict[str, dict[str, Any]]
    seed: int


def open_sources(configs: list[SourceConfig], seed: int = 0) -> list[Source]:
    """Find what the sources name; ValueError with the source's index for what is not there."""
    opened: list[Source] = []
    for index, config in enumerate(configs):
        try:
            config.check()
            files = files_of(config)
        except ValueError as e:
            raise ValueError(f"sources[{index}].{e}") from e
        if config.label() in [source.name for source in opened]:
            raise ValueError(f"sources[{index}].name: {config.label()!r} is used twice")
        source = Source(
            name=config.label(),
            mapping=Mapping() if config.gym else config.mapped(),
            files=files,
            limit=config.limit,
            kinds=list(config.gym.items()),
            settings=dict(config.settings),
            seed=seed if config.seed is None else config.seed,
        )
        opened.append(source)
    return opened


def signature(configs: list[SourceConfig]) -> list[list[Any]]:
    """What the sources consist of now, as plain values that change when their content does.

    Sizes and times of files; for the hub the URIs, which name a commit; for generated problems the
    generator's version. Raises ValueError like `open_sources`.
    """
    found: list[list[Any]] = []
    for source, config in zip(open_sources(configs), configs, strict=True):
        if source.kinds:
            found.append(["reasoning-gym", version("reasoning-gym"), generator.CHUNK])
        else:
            found.append(files_signature(config, source.files))
    return found


def files_signature(config: SourceConfig, files: list[readers.File]) -> list[Any]:
    """`signature` of one source that has files."""
    if config.hub:
        return [redact(file.uri) for file in files]
    infos = [(file.name, file.info()) for file in files]
    return [[name, info.size, info.mtime_ns] for name, info in infos]


def files_of(config: SourceConfig) -> list[readers.File]:
    """The files that a source names; ValueError, beginning with the field's name, for none."""
    if config.hub:
        hub = (config.hub, config.subset, config.split, config.revision)
        return discovery.on_hub(*hub, config.format)
    return discovery.on_disk(config.path, config.format) if config.path else []


class WorkItem(NamedTuple):
    """What one task reads: a span of a file or of a kind's rows; all of it without `file`."""

    source: int
    file: int | None
    """Index of a file, or of a kind of generated problems."""
    span: Span


def work_items(sources: list[Source], target: int | None = None) -> list[WorkItem]:
    """What there is to read, in the order of sources, files and lines.

    Files are cut side by side: a large one has its lines counted, which is waiting for a disk or
    an object store.

    Args:
        target: bytes of JSONL in one item, SPAN_BYTES by default.
    """
    whole = [
        (number, file)
        for number, source in enumerate(sources)
        for file in ([None] if source.limit else range(len(source.files) or len(source.kinds)))
    ]
    with ThreadPoolExecutor(CUTTERS) as pool:
        spans = pool.map(lambda each: list(_spans(sources[each[0]], each[1], target)), whole)
    return [
        WorkItem(*each, span) for each, found in zip(whole, spans, strict=True) for span in found
    ]


def _spans(source: Source, file: int | None, target: int | None) -> Iterator[Span]:
    if file is None:
        return iter([WHOLE])
    if source.files:
        return readers.spans(source.files[file], target or SPAN_BYTES)
    rows = source.kinds[file][1]
    return (Span(begin, min(begin + MADE, rows), begin + 1) for begin in range(0, rows, MADE))


def rows(sources: list[Source], item: WorkItem) -> Iterator[dict[str, Any]]:
    """The rows of one work item."""
    source = sources[item.source]
    if source.kinds:
        yield from _generated(source, item)
        return
    needed, domain = needed_columns(source.mapping), source.mapping.domain or "math"
    taken = 0
    for file, result in records(source, item, needed):
        origin: dict[str, Any] = {"source": source.name, "file": file.name, "line": result.line}
        if isinstance(result, Unreadable):
            row = empty_row(**origin, domain=domain) | invalid(result.error)
        else:
            row = pool_row(result.value, source.mapping, **origin)
        yield row
        taken += row["reason"] != "not_selected"
        if source.limit and taken >= source.limit:
            return


def records(
    source: Source, item: WorkItem, columns: set[str]
) -> Iterator[tuple[readers.File, Record | Unreadable]]:
    """What the files of a work item hold, in order; of Parquet these columns only."""
    files = source.files if item.file is None else [source.files[item.file]]
    for file in files:
        spans = readers.spans(file, SPAN_BYTES) if item.file is None else [item.span]
        for span in spans:
            for result in readers.read(file, columns, span):
                yield file, result


def _generated(source: Source, item: WorkItem) -> Iterator[dict[str, Any]]:
    assert item.file is not None and item.span.end is not None
    kind, _ = source.kinds[item.file]
    settings = source.settings.get(kind, {})
    made = generator.problems(kind, settings, source.seed, item.span.begin, item.span.end)
    for line, entry in enumerate(made, item.span.line):
        file = f"reasoning_gym/{kind}"
        row = empty_row(source=source.name, file=file, line=line, domain="gym")
        if isinstance(entry, InvalidRow):
            yield row | invalid(entry)
        else:
            yield row | entry | {"id": problem_id(entry["question"])}


def tables(found: Iterator[dict[str, Any]]) -> Iterator[pa.Table]:
    """Rows as tables of the schema POOL, small enough to stream; at least one, maybe empty."""
    batch: list[dict[str, Any]] = []
    size = 0
    for row in found:
        batch.append(row)
        size += len(row["question"]) + len(row["answer"])
        if len(batch) == ROWS or size > CHARACTERS:
            yield pa.Table.from_pylist(batch, schema=POOL)
            batch, size = [], 0
    yield pa.Table.from_pylist(batch, schema=POOL)
