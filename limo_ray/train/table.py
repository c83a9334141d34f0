"""Reading, encoding, dropping and cutting: what goes into a training, with the counts to show."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from limo_ray.problems.chats import Bad, Chat, RowsConfig
from limo_ray.problems.columns import InvalidRow
from limo_ray.train import batches
from limo_ray.train.config import TrainConfig
from limo_ray.train.tokens import Encoder, Tokens

SHOWN = 5  # bad rows named


@dataclass(kw_only=True, slots=True)
class TrainingData:
    """Examples ready to train on, and what became of the others."""

    train: list[Tokens]
    held_out: list[Tokens]
    read: int
    """Rows of the data."""
    counts: dict[str, int]
    """Dropped as bad, dropped as too long, cut, nothing left to learn."""
    named: list[str]
    """The first of them, each with file, row and field."""

    @property
    def targets(self) -> tuple[int, ...]:
        """Learned tokens of each training example."""
        return tuple(one.targets for one in self.train)


def prepare(
    rows: Iterable[Chat | Bad], encoder: Encoder, config: RowsConfig, seed: int
) -> TrainingData:
    """Encodes all rows under the stated policy.

    Raises ValueError that names the rows when bad ones stop (rows.bad), when too long ones do
    (rows.too_long), or when nothing is left to train on.
    """
    found: list[Tokens] = []
    counts: Counter[str] = Counter()
    bad: list[str] = []
    long: list[str] = []
    read = 0
    for row in rows:
        read += 1
        tokens = _encode(row, encoder)
        if isinstance(tokens, Bad):
            counts["bad"] += 1
            bad.append(str(tokens))
            continue
        if len(tokens) > config.max_tokens:
            counts["too long, cut" if config.too_long == "cut" else "too long, dropped"] += 1
            limit = f"more than rows.max_tokens ({config.max_tokens:,})"
            long.append(f"{row.file}, row {row.row}: {len(tokens):,} tokens, {limit}")
            if config.too_long != "cut":
                continue
            size = config.max_tokens
            tokens = Tokens(ids=tokens.ids[:size], learn=tokens.learn[:size])
        if not tokens.targets:
            counts["nothing left to learn"] += 1
            continue
        found.append(tokens)
    if bad and config.bad == "stop":
        raise ValueError(
            _rows_message(bad, read, "cannot be examples", "rows.bad=drop leaves them out")
        )
    if long and config.too_long == "stop":
        advice = "rows.too_long=drop or cut, or a larger rows.max_tokens"
        raise ValueError(_rows_message(long, read, "are too long", advice))
    held = _held_out(len(found), config, seed)
    data = TrainingData(
        train=[one for place, one in enumerate(found) if place not in held],
        held_out=[one for place, one in enumerate(found) if place in held],
        read=read,
        counts=dict(counts),
        named=(bad + long)[:SHOWN],
    )
    if not data.train:
        raise ValueError(f"data: nothing to train on in {read:,} rows ({dict(counts) or 'empty'})")
    return data


def _encode(row: Chat | Bad, encoder: Encoder) -> Tokens | Bad:
    if isinstance(row, Bad):
        return row
    try:
        return encoder.encode(row.messages)
    except InvalidRow as error:
        return Bad(file=row.file, row=row.row, message=str(error))


def _rows_message(rows: list[str], read: int, what: str, advice: str) -> str:
    more = f"; and {len(rows) - SHOWN:,} more" if len(rows) > SHOWN else ""
    named = "; ".join(rows[:SHOWN])
    return f"data: {len(rows):,} of {read:,} rows {what}: {named}{more} ({advice})"


def _held_out(examples: int, config: RowsConfig, seed: int) -> set[int]:
    share = config.held_out
    wanted = round(share * examples) if share < 1 else int(share)
    if share and not 0 < wanted < examples:
        raise ValueError(f"rows.held_out: {share} of {examples} examples leaves none on one side")
    return set(np.random.default_rng([seed, 1]).permutation(examples)[:wanted].tolist())


@dataclass(kw_only=True, slots=True)
class Layout:
    """How a training's batches come out: the same on every worker."""

    schedule: batches.Schedule
    groups: int
    packing: bool
    room: int
    micro: int
    multiple: int

    def rows(self, data: list[Tokens], chosen: list[int]) -> list[batches.Rows]:
        """The examples of one batch, for each group of workers."""
        # by place, for a batch of so many tokens may have an example twice
        lengths = {place: len(data[one]) for place, one in enumerate(chosen)}
        if self.packing:
            found = batches.pack(lengths, self.groups, self.room)
        else:
            found = batches.pad(lengths, self.groups, self.micro)
        return [[[chosen[place] for place in row] for row in rows] for rows in found]

    def row(self, data: list[Tokens], chosen: list[int]) -> batches.TokenRow:
        make = batches.packed_row if self.packing else batches.padded_row
        return make([data[one] for one in chosen], self.multiple)


def batch_layout(config: TrainConfig, examples: int, targets: tuple[int, ...] = ()) -> Layout:
    """The layout that a config asks for; `targets`: each example's, for batch.tokens."""
    shared = config.compute.sequence_parallel
    optimizer = config.optimizer
    schedule = batches.Schedule(
        examples=examples, batch=config.batch.examples, epochs=optimizer.epochs,
        max_steps=optimizer.max_steps, seed=config.seed, tokens=config.batch.tokens,
        targets=targets,
    )  # fmt: skip
    return Layout(
        schedule=schedule, groups=config.workers.count // shared, packing=config.batch.packing,
        room=config.pack_tokens, micro=config.batch.micro_examples, multiple=shared,
    )  # fmt: skip


def demand(data: TrainingData, layout: Layout) -> tuple[int, int]:
    """Tokens of the largest forward pass of the first epoch, padding included; passes of a step."""
    sizes = list(_passes(data, layout))
    return max(map(max, sizes)), max(map(len, sizes))


def _passes(data: TrainingData, layout: Layout) -> Iterator[list[int]]:
    """Tokens, padding included, of each forward pass of a group in a step, over the first epoch."""
    for step in range(layout.schedule.per_epoch):
        for group in layout.rows(data.train, layout.schedule.batch_of(step)):
            yield [layout.row(data.train, chosen).ids.size for chosen in group]


def table(data: TrainingData, layout: Layout) -> list[tuple[str, str]]:
    """What is shown before the start: names and values."""
    lengths = [len(one) for one in data.train]
    targets = sum(one.targets for one in data.train)
    schedule = layout.schedule
    sizes = list(_passes(data, layout))
    passes = max(map(len, sizes))
    batch = f"{min(schedule.batch, len(lengths))} examples"
    if schedule.tokens:
        batch = f"{schedule.tokens:,} learned tokens"
    used = sum(
        lengths[one] for step in range(schedule.per_epoch) for one in schedule.batch_of(step)
    )
    waste = 1 - used / sum(map(sum, sizes))
    shown = [("rows read", f"{data.read:,}")]
    shown += [(name, f"{count:,}") for name, count in data.counts.items()]
    shown += [
        ("examples", f"{len(lengths):,}"),
        ("held out", f"{len(data.held_out):,}"),
        ("tokens", f"{sum(lengths):,}, {targets:,} of them learned"),
        ("longest", f"{max(lengths):,} tokens; half have at most {int(np.median(lengths)):,}"),
        ("global batch", f"{batch}, in up to {passes} "
                         f"forward pass(es) of each of {layout.groups} worker group(s)"),
        ("steps", f"{schedule.steps:,}, {schedule.per_epoch:,} an epoch"),
        ("padding waste", f"{waste:.1%}" + (" (packed)" if layout.packing else "")),
    ]  # fmt: skip
    return shown
