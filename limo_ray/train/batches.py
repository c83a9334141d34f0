"""Which examples an optimizer step has, and how they are laid out for the workers. Pure.

A step's examples depend on seed and step alone. Layout (packed or padded rows, workers,
accumulation) only says who computes what; the loss is a sum over the step's learned tokens divided
by their number, so no layout changes it, and a run resumes from its step number.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from limo_ray.train.tokens import Tokens

IGNORED = -100  # label of what is not learned, as torch's cross entropy has it

Rows = list[list[int]]  # of one worker and step: for each forward pass the examples it has


@dataclass(kw_only=True, slots=True)
class TokenRow:
    """One forward pass of one worker.

    `ids`, `positions` and `labels` are (rows, length); labels are shifted: the token that comes
    next. `bounds` are the places where packed examples begin, and the end; None for padded rows.
    """

    ids: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    bounds: np.ndarray | None
    tokens: int
    """Of examples, without padding."""


@dataclass(kw_only=True, frozen=True, slots=True)
class Schedule:
    """Steps and epochs of a training.

    With `tokens` a step has as many examples as come nearest to so many learned tokens, and an
    epoch may end within a step: trainings on other examples then learn as much in as many steps.
    """

    examples: int
    batch: int
    epochs: int
    max_steps: int
    seed: int
    tokens: int = 0
    targets: tuple[int, ...] = ()
    """Learned tokens of each example; needed with `tokens`."""

    def __post_init__(self) -> None:
        if self.tokens and max(self.targets) > self.tokens:
            raise ValueError(
                f"batch.tokens: {self.tokens:,} is fewer than the longest example's learned tokens "
                f"({max(self.targets):,}): a step would be empty"
            )

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch; its last batch may be smaller, no example is left out."""
        if self.tokens:
            return max(1, round(sum(self.targets) / self.tokens))
        return -(-self.examples // self.batch)

    @property
    def steps(self) -> int:
        whole = self.per_epoch * self.epochs
        return min(whole, self.max_steps) if self.max_steps else whole

    def batch_of(self, step: int) -> list[int]:
        """The examples of a step (from 0), in the order drawn for its epoch."""
        if self.tokens:
            return self._batch_of_tokens(step)
        epoch, place = divmod(step, self.per_epoch)
        order = _order(self.seed, epoch, self.examples)
        return order[place * self.batch : (place + 1) * self.batch].tolist()

    def _batch_of_tokens(self, step: int) -> list[int]:
        """Those whose middle lies in the step's share of the learned tokens of all epochs.

        The last example of `max_steps` is the one that brings the sum nearest to what it should be.
        """
        targets = np.array(self.targets)
        total = int(targets.sum())
        begin, end = step * self.tokens, (step + 1) * self.tokens
        found: list[int] = []
        for epoch in range(begin // total, (end - 1) // total + 1):
            order = _order(self.seed, epoch, self.examples)
            middle = epoch * total + np.cumsum(targets[order]) - targets[order] / 2
            found += order[(middle >= begin) & (middle < end)].tolist()
        if step == self.max_steps - 1 and found:
            learned = epoch * total + int(targets[order][middle < end].sum())
            free = np.setdiff1d(np.arange(self.examples), found[:-1])
            wanted = targets[found[-1]] + end - learned
            off = np.abs(targets - wanted)
            if len(free) and off[free].min() < off[found[-1]]:
                found[-1] = int(free[off[free].argmin()])
        return found


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, examples: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(examples)


def pack(lengths: dict[int, int], groups: int, room: int) -> list[Rows]:
    """Examples in as few equal rounds of packed rows of at most `room` tokens as there can be.

    Args:
        lengths: tokens of each example.
        groups: workers (or groups of them) that each have one row a round.
        room: at least the longest example.

    Returns:
        for each group its rows, as many for each; a row may be empty.
    """
    longest_first = sorted(lengths, key=lambda one: (-lengths[one], one))
    rounds = max(1, -(-sum(lengths.values()) // (groups * room)))
    while True:
        rows: Rows = [[] for _ in range(groups * rounds)]
        filled = [0] * len(rows)
        for one in longest_first:
            place = min(range(len(rows)), key=filled.__getitem__)
            if filled[place] + lengths[one] > room:
                break
            rows[place].append(one)
            filled[place] += lengths[one]
        else:
            # rows of one round are alike in length: nobody waits long for the others
            order = sorted(range(len(rows)), key=lambda place: (-filled[place], place))
            return [[rows[place] for place in order[group::groups]] for group in range(groups)]
        rounds += 1


def pad(lengths: dict[int, int], groups: int, micro: int) -> list[Rows]:
    """Examples in passes of `micro` padded rows, those of like length together."""
    order = sorted(lengths, key=lambda one: (-lengths[one], one))
    passes = [order[start : start + micro] for start in range(0, len(order), micro)]
    rounds = -(-len(passes) // groups)
    passes += [[] for _ in range(rounds * groups - len(passes))]
    return [passes[group::groups] for group in range(groups)]


def packed_row(examples: list[Tokens], multiple: int = 1) -> TokenRow:
    """Examples end to end, positions from 0 in each; filled up to a multiple of `multiple`."""
    tokens = sum(len(one) for one in examples)
    fill = -tokens % multiple or (0 if tokens else multiple)
    lengths = [len(one) for one in examples] + ([fill] if fill else [])
    ids, labels, positions = np.zeros((3, tokens + fill), np.int64)
    labels[:] = IGNORED
    start = 0
    for one in examples:
        end = start + len(one)
        ids[start:end] = one.ids
        labels[start:end] = _next(one)
        start = end
    positions = np.concatenate([np.arange(length) for length in lengths])
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return TokenRow(
        ids=ids[None], positions=positions[None], labels=labels[None], bounds=bounds, tokens=tokens
    )


def padded_row(examples: list[Tokens], multiple: int = 1) -> TokenRow:
    """Examples one below the other, filled up on the right to the longest.

    Attention looks back only, so what is filled up needs no mask: nothing before it sees it.
    """
    longest = max((len(one) for one in examples), default=1)
    length = longest + -longest % multiple
    ids = np.zeros((max(1, len(examples)), length), np.int64)
    labels = np.full_like(ids, IGNORED)
    for place, one in enumerate(examples):
        ids[place, : len(one)] = one.ids
        labels[place, : len(one)] = _next(one)
    positions = np.broadcast_to(np.arange(length), ids.shape).copy()
    tokens = sum(len(one) for one in examples)
    return TokenRow(ids=ids, positions=positions, labels=labels, bounds=None, tokens=tokens)


def _next(one: Tokens) -> np.ndarray:
    """Labels: at each place the token after it where that one is learned."""
    labels = np.full(len(one), IGNORED, np.int64)
    labels[:-1] = np.where(one.learn[1:], one.ids[1:], IGNORED)
    return labels
