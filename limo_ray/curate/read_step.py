"""The first step of the pool: a row is read, filtered, checked and decontaminated on its own.

    for name, item in named_items(settings.sources).items():
        read(name, item, settings, work)

A work item becomes one or more shards: rows/<shard>.parquet with the drop reason of each row so
far, ids/<shard>.arrow for exact duplicates and bands/<shard>.arrow for near-duplicates.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limo_ray.curate.config import CurateConfig
from limo_ray.curate.filters import Count, FiltersConfig, mark_filtered
from limo_ray.curate.part_files import gather
from limo_ray.curate.shuffle_files import write_buckets
from limo_ray.problems import benchmarks, sources
from limo_ray.problems import near_duplicates as near
from limo_ray.problems.answer_check import checked, mark_unverifiable
from limo_ray.problems.decontaminate import Index
from limo_ray.problems.drop_reasons import with_drop_reason
from limo_ray.problems.near_duplicates import NearConfig
from limo_ray.problems.problem_rows import ORIGIN
from limo_ray.problems.readable import RowCounts, check_source
from limo_ray.problems.text_features import Features, text_hash
from limo_ray.storage import model_files
from limo_ray.storage.store import Store

log = logging.getLogger(__name__)

SHARD_ROWS = 50_000
BUCKET_ROWS = 400_000  # rows whose keys one task of a later step holds in memory
LONG_ANSWER = 200  # characters; longer gold answers are fetched where they are needed


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolSettings:
    """What the steps read and drop; pickled to every task."""

    sources: list[sources.Source]
    filters: FiltersConfig
    near: NearConfig
    index: Index
    gold_check: bool
    seed: int
    count: Count | None
    """Counts the tokens of a question, for the filter of those too long for the models."""
    buckets: int
    """How many groups keys are divided into, each handled by one task at a time."""


def pool_settings(
    config: CurateConfig,
    opened: list[sources.Source],
    items: list[benchmarks.Item],
    buckets: int,
) -> PoolSettings:
    """The settings of a config, with its sources, found to exist, and the items to keep out."""
    room = config.filters.max_tokens or room_for_questions(config)
    model = config.engines[config.difficulty.strong.engine]
    count = partial(count_tokens, model=model.model, revision=model.revision)
    return PoolSettings(
        sources=opened,
        filters=replace(config.filters, max_tokens=room),
        near=config.near,
        index=Index(items, config.decontaminate, config.near),
        gold_check=config.gold_check,
        seed=config.seed,
        count=count if model.kind == "vllm" else None,
        buckets=buckets,
    )


def items_to_keep_out(config: CurateConfig) -> tuple[list[benchmarks.Item], list[str]]:
    """All items of the benchmarks that the config names, and why others are missing, if allowed.

    Raises:
        ValueError: one of them cannot be loaded, and the config does not allow that.
    """
    chosen = config.decontaminate
    store = Store(config.store)
    wanted: list[tuple[str, Callable[[], list[benchmarks.Item]]]] = [
        (f"benchmarks[{i}]", partial(benchmarks.load, name, chosen.folder, store, chosen.mirror))
        for i, name in enumerate(chosen.benchmarks)
    ]
    wanted += [
        (f"files[{i}]", partial(benchmarks.of_source, source, config.seed))
        for i, source in enumerate(chosen.files)
    ]
    found: list[benchmarks.Item] = []
    missing: list[str] = []
    for key, load in wanted:
        try:
            found += load()
        except (ValueError, OSError) as error:
            if not chosen.allow_missing:
                raise ValueError(
                    f"decontaminate.{key}: {error}. Give decontaminate.folder=, take it out, or "
                    "go on without it with decontaminate.allow_missing=true"
                ) from error
            missing.append(f"decontaminate.{key} was not kept out of the pool: {error}")
            log.warning(missing[-1])
    return found, missing


def room_for_questions(config: CurateConfig) -> int:
    """Tokens of a question that every engine has room for beside the system prompt and an answer
    of full length; a quarter of the context where answers may fill all of it."""
    rooms = [
        max(engine.max_model_len - sampling.max_tokens, engine.max_model_len // 4)
        for engine, sampling in config.samplings()
    ]
    return max(1, min(rooms) - len(config.system) // 3 - 32)


def count_tokens(text: str, model: str, revision: str) -> int:
    """Tokens of a text as a model counts them."""
    return len(_tokenizer(model, revision)(text)["input_ids"])


@cache
def _tokenizer(model: str, revision: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        model_files.resolve(model, weights=False), revision=revision or "main"
    )


def bucket_count(opened: list[sources.Source]) -> int:
    """How many buckets a pool's keys want, by a guess at its rows."""
    rows = 0.0
    for source in opened:
        rows += sum(count for _, count in source.kinds)
        for file in source.files:
            size = file.info().size or 0
            rows += source.limit or size / (60 if file.packed or file.format == "parquet" else 250)
    return int(np.clip(rows // BUCKET_ROWS + 1, 1, 1024))


def named_items(opened: list[sources.Source]) -> dict[str, sources.WorkItem]:
    """What there is to read, in the order of sources, files and lines, and so of the names."""
    return {
        f"{item.source:03d}-{0 if item.file is None else item.file + 1:06d}"
        f"-{item.span.begin:015d}": item
        for item in sources.work_items(opened)
    }


def read(name: str, item: sources.WorkItem, settings: PoolSettings, work: Store) -> int:
    """One work item as shards of SHARD_ROWS rows or more, with drop reasons so far and keys."""
    sizes: list[int] = []
    rows = sources.rows(settings.sources, item)
    unanswered = settings.sources[item.source].mapping.unanswered
    for table in gather(sources.tables(rows), SHARD_ROWS):
        shard = f"{name}-{len(sizes):05d}"
        table = mark_filtered(table, settings.filters, settings.count, unanswered=unanswered)
        if settings.gold_check:
            table = mark_unverifiable(table, checked, unanswered=unanswered)
        table = _write_keys(shard, table, settings, work)
        work.write_table(f"rows/{shard}.parquet", table)
        sizes.append(table.num_rows)
    work.write_json(f"done/{name}.json", sizes)
    return sum(sizes)


def check_readable(opened: list[sources.Source], work: Store, min_readable: float) -> None:
    """Raises ValueError for a source of which no row, or fewer than the share, could be read."""
    files = work.files("rows")
    for index in range(len(opened)):
        mine = [f"rows/{name}" for name in files if name.startswith(f"{index:03d}-")]
        counts: Counter[str | None] = Counter()
        example = None
        for file in mine:
            reasons = work.read_table(file, ["reason"])["reason"]
            counts.update(reasons.to_pylist())
            first = pc.index(reasons, "invalid").as_py()
            if first >= 0 and example is None:
                columns = ["file", "line", "evidence"]
                example = work.read_table(file, columns).slice(first, 1).to_pylist()[0]
        found = RowCounts(counts.total(), counts["not_selected"], counts["invalid"])
        check_source(opened, index, found, example, min_readable)


def _write_keys(shard: str, table: pa.Table, settings: PoolSettings, work: Store) -> pa.Table:
    """Writes the keys of the rows that stay; returns the rows, contaminated ones marked."""
    live = np.flatnonzero(pc.is_null(table["reason"]).to_numpy())
    questions = table["question"].take(live).to_pylist()
    features = Features.of(questions)
    procedural = pc.is_in(table["domain"].take(live), pa.array(near.PROCEDURAL)).to_numpy()
    keys = near.band_keys(features, procedural, settings.index.near)
    matches = settings.index.find(questions, features, procedural, keys)
    evidence: list[str | None] = [None] * table.num_rows
    for row, question, match in zip(live.tolist(), questions, matches, strict=True):
        if match:
            evidence[row] = json.dumps(match.evidence(question), ensure_ascii=False)
    table = with_drop_reason(table, "decontaminate", "contaminated", evidence)
    clean = np.array([match is None for match in matches], bool)
    if settings.near.drop:
        if settings.near.numbers != settings.index.near.numbers:
            keys = near.band_keys(features, procedural, settings.near)
        ties = features.whole().astype(np.uint32)
        _write_bands(shard, live[clean], keys[clean], ties[clean], settings, work)
    _write_ids(shard, table, live[clean], settings, work)
    return table


def _write_bands(
    shard: str,
    rows: np.ndarray,
    keys: np.ndarray,
    ties: np.ndarray,
    settings: PoolSettings,
    work: Store,
) -> None:
    """Writes bands/<shard>.arrow, one row for each key of a row."""
    flat = keys.ravel()
    chosen = flat != 0
    table = pa.table(
        {
            "row": np.repeat(rows.astype(np.uint32), keys.shape[1])[chosen],
            "tie": np.repeat(ties, keys.shape[1])[chosen],
            "key": flat[chosen],
        }
    )
    bucket = (flat[chosen] % np.uint64(settings.buckets)).astype(np.int64)
    write_buckets(work, f"bands/{shard}.arrow", table, bucket, settings.buckets)


def _write_ids(
    shard: str, table: pa.Table, rows: np.ndarray, settings: PoolSettings, work: Store
) -> None:
    """Writes ids/<shard>.arrow, what the choice among rows of one question follows from."""
    chosen = table.select(["id", *ORIGIN, "question", "answer", "domain", "metadata"]).take(rows)
    texts = zip(chosen["question"].to_pylist(), chosen["answer"].to_pylist(), strict=True)
    digests = [text_hash(f"{question}\n{answer}") for question, answer in texts]
    short = pc.less_equal(pc.utf8_length(chosen["answer"]), LONG_ANSWER)
    ids = pa.table(
        {
            "row": pa.array(rows, pa.int64()),
            **{column: chosen[column] for column in ("id", *ORIGIN, "domain")},
            "answer": pc.if_else(short, chosen["answer"], pa.scalar(None, pa.string())),
            "solved": has_solution(chosen, settings),
            "digest": pa.array(digests, pa.uint64()),
        }
    )
    bucket = np.array(
        [int(id_[:8], 16) % settings.buckets for id_ in ids["id"].to_pylist()], np.int64
    )
    write_buckets(work, f"ids/{shard}.arrow", ids, bucket, settings.buckets)


def has_solution(table: pa.Table, settings: PoolSettings) -> pa.Array:
    """Whether a row came with a worked solution: its answer was taken from it, or it was kept."""
    names = [source.name for source in settings.sources if source.mapping.solution]
    taken = pc.is_in(table["source"], pa.array(names, pa.string()))
    return pc.or_(taken, pc.match_substring(table["metadata"], '"solution":'))
