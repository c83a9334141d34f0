"""What happens to a row on its own: read, filtered, checked, decontaminated, and its keys made.

    for piece in pieces(plan):
        read(piece, plan, work)

A piece of a source becomes one or more parts: rows/<part>.parquet with the fate of each row so
far, ids/<part>.arrow for exact duplicates and bands/<part>.arrow for near-duplicates.
"""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limo_ray.curate.config import CurateConfig
from limo_ray.curate.filters import Count, FiltersConfig, mark_filtered
from limo_ray.curate.shuffle_files import write_buckets
from limo_ray.problems import benchmarks, sources
from limo_ray.problems import near_duplicates as near
from limo_ray.problems.answer_check import checked, mark_unverifiable
from limo_ray.problems.decontaminate import Index
from limo_ray.problems.drop_reasons import with_fate
from limo_ray.problems.near_duplicates import NearConfig
from limo_ray.problems.text_features import Features, text_hash
from limo_ray.storage import model_files
from limo_ray.storage.store import Store

log = logging.getLogger(__name__)

PART_ROWS = 50_000
BUCKET_ROWS = 400_000  # rows whose keys one task of a later step holds in memory
LONG_ANSWER = 200  # characters; longer gold answers are fetched where they are needed
ORIGIN = ("source", "file", "line")

Piece = tuple[str, sources.WorkItem]  # its name, and what to read


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Everything that the steps need to know; pickled to every task."""

    sources: list[sources.Source]
    filters: FiltersConfig
    near: NearConfig
    index: Index
    gold_check: bool
    seed: int
    count: Count | None
    """Counts the tokens of a question, for the filter of those too long for the models."""
    buckets: int
    """Parts that keys are divided into, each handled by one task at a time."""


def plan(
    config: CurateConfig,
    opened: list[sources.Source],
    items: list[benchmarks.Item],
    buckets: int,
) -> Plan:
    """The plan of a config: its sources, found to exist, and the items to keep out."""
    room = config.filters.max_tokens or room_for_questions(config)
    model = config.engines[config.difficulty.strong.engine]
    return Plan(
        sources=opened,
        filters=replace(config.filters, max_tokens=room),
        near=config.near,
        index=Index(items, config.decontaminate, config.near),
        gold_check=config.gold_check,
        seed=config.seed,
        count=TokenCount(model.model, model.revision) if model.kind == "vllm" else None,
        buckets=buckets,
    )


def to_keep_out(config: CurateConfig) -> tuple[list[benchmarks.Item], list[str]]:
    """All items of the benchmarks that the config names, and why others are missing, if allowed.

    Raises:
        ValueError: one of them cannot be loaded, and the config does not allow that.
    """
    chosen = config.decontaminate
    wanted: list[tuple[str, Callable[[], list[benchmarks.Item]]]] = [
        (f"benchmarks[{i}]", partial(benchmarks.load, name, chosen.folder))
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


class TokenCount:
    """Counts the tokens of a text as a model does; the tokenizer is loaded where it is used."""

    def __init__(self, model: str, revision: str) -> None:
        self.model, self.revision = model, revision

    def __call__(self, text: str) -> int:
        return len(_tokenizer(self.model, self.revision)(text)["input_ids"])


@cache
def _tokenizer(model: str, revision: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        model_files.resolve(model, weights=False), revision=revision or "main"
    )


def buckets(opened: list[sources.Source]) -> int:
    """How many buckets a pool's keys want, by a guess at its rows."""
    rows = 0.0
    for source in opened:
        rows += sum(count for _, count in source.kinds)
        for file in source.files:
            size = file.info().size or 0
            rows += source.limit or size / (60 if file.packed or file.format == "parquet" else 250)
    return int(np.clip(rows // BUCKET_ROWS + 1, 1, 1024))


def pieces(plan: Plan) -> list[Piece]:
    """What there is to read, named in the order of sources, files and lines."""
    return [
        (f"{item.source:03d}-{0 if item.file is None else item.file + 1:06d}"
         f"-{item.span.begin:015d}", item)
        for item in sources.work_items(plan.sources)
    ]  # fmt: skip


def read(piece: Piece, plan: Plan, work: Store) -> int:
    """One piece of a source as parts of up to PART_ROWS rows, their fate so far, and their keys."""
    name, item = piece
    sizes: list[int] = []
    for table in _chunks(sources.tables(sources.rows(plan.sources, item))):
        part = f"{name}-{len(sizes):05d}"
        table = mark_filtered(table, plan.filters, plan.count)
        if plan.gold_check:
            table = mark_unverifiable(table, checked)
        live = np.flatnonzero(pc.is_null(table["reason"]).to_numpy())
        questions = table["question"].take(live).to_pylist()
        found = Features.of(questions)
        made = pc.is_in(table["domain"].take(live), pa.array(near.PROCEDURAL)).to_numpy()
        keys = near.band_keys(found, made, plan.index.near)
        matches = plan.index.find(questions, found, made, keys)
        clean = np.array([match is None for match in matches], bool)
        told: list[str | None] = [None] * table.num_rows
        for row, question, match in zip(live.tolist(), questions, matches, strict=True):
            if match:
                told[row] = json.dumps(match.evidence(question), ensure_ascii=False)
        table = with_fate(table, "decontaminate", "contaminated", told)
        if plan.near.on:
            if plan.near.numbers != plan.index.near.numbers:
                keys = near.band_keys(found, made, plan.near)
            ties = found.whole().astype(np.uint32)
            _write_bands(f"bands/{part}.arrow", live[clean], keys[clean], ties[clean], plan, work)
        work.write_table(f"rows/{part}.parquet", table)
        _write_ids(f"ids/{part}.arrow", table, live[clean], plan, work)
        sizes.append(table.num_rows)
    work.write_json(f"done/{name}.json", sizes)
    return sum(sizes)


def _chunks(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Tables of PART_ROWS rows, the last one shorter; none where there are no rows."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += table.num_rows
        while rows >= PART_ROWS:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, PART_ROWS).combine_chunks()
            waiting = [whole.slice(PART_ROWS)]
            rows -= PART_ROWS
    if rows:
        yield pa.concat_tables(waiting).combine_chunks()


def _write_bands(
    name: str, rows: np.ndarray, keys: np.ndarray, ties: np.ndarray, plan: Plan, work: Store
) -> None:
    flat = keys.ravel()
    told = flat != 0
    table = pa.table(
        {
            "row": np.repeat(rows.astype(np.uint32), keys.shape[1])[told],
            "tie": np.repeat(ties, keys.shape[1])[told],
            "key": flat[told],
        }
    )
    bucket = (flat[told] % np.uint64(plan.buckets)).astype(np.int64)
    write_buckets(work, name, table, bucket, plan.buckets)


def _write_ids(name: str, table: pa.Table, rows: np.ndarray, plan: Plan, work: Store) -> None:
    chosen = table.select(["id", *ORIGIN, "question", "answer", "domain", "metadata"]).take(rows)
    digests = [
        text_hash(f"{question}\n{answer}")
        for question, answer in zip(
            chosen["question"].to_pylist(), chosen["answer"].to_pylist(), strict=True
        )
    ]
    short = pc.less_equal(pc.utf8_length(chosen["answer"]), LONG_ANSWER)
    ids = pa.table(
        {
            "row": pa.array(rows, pa.int64()),
            **{column: chosen[column] for column in ("id", *ORIGIN, "domain")},
            "answer": pc.if_else(short, chosen["answer"], pa.scalar(None, pa.string())),
            "solved": solved(chosen, plan),
            "digest": pa.array(digests, pa.uint64()),
        }
    )
    bucket = np.array([int(one[:8], 16) % plan.buckets for one in ids["id"].to_pylist()], np.int64)
    write_buckets(work, name, ids, bucket, plan.buckets)


def solved(table: pa.Table, plan: Plan) -> pa.Array:
    """Whether a row came with a worked solution: its answer was taken from it, or it was kept."""
    solved = pa.array(
        [source.name for source in plan.sources if source.mapping.solution], pa.string()
    )
    taken = pc.is_in(table["source"], solved)
    return pc.or_(taken, pc.match_substring(table["metadata"], '"solution":'))
