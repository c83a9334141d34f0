"""What `bench/pool/data.py` makes its rows of: problems with slots for numbers and first names.

A base is a problem found somewhere, cut at its numbers and names. Bases of the same wording form a
family: two problems of one family with the same numbers would be one, so none is made twice.
"""

import json
import random
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import texts

from limo_ray.core.records import normalise
from limo_ray.problems import gym
from limo_ray.problems.columns import InvalidRow
from limo_ray.problems.mappings import READY
from limo_ray.problems.problem_rows import pool_row

# How often a row is made of a group; groups without bases do not count.
WEIGHTS = {"real": 45, "gsm_symbolic": 18, "gym": 15, "latex": 22}
# Kinds whose problems are many numbers in few words, with the rows taken of each.
KINDS = {
    "advanced_geometry": 150, "basic_arithmetic": 300, "base_conversion": 300, "chain_sum": 300,
    "count_primes": 300, "decimal_arithmetic": 300, "fraction_simplification": 300, "gcd": 300,
    "gsm_symbolic": 3000, "lcm": 300, "number_filtering": 300, "products": 300,
    "simple_equations": 300, "simple_geometry": 300,
}  # fmt: skip
# Kinds of the made benchmark: none of them is among the others.
HELD_OUT = {"aiw": 60, "leg_counting": 80, "time_intervals": 80, "dice": 60, "jugs": 40}
HELD_OUT_LATEX, HELD_OUT_SHORT = 120, 80
LATEX = 4000  # bases put together of LaTeX parts
# Words that make a problem one that filters drop: a pool that counts removals leaves it out.
_UNFIT = re.compile(
    r"prove|proof|show that|https?:|\[asy\]|!\[|true or false|yes or no|\(A\)|\bA\)|\(a\)|\(i\)"
    r"|following statements|which of the following",
    re.IGNORECASE,
)
_GENDER = dict.fromkeys(texts.GIRLS, 0) | dict.fromkeys(texts.BOYS, 1)
_SLOT = re.compile(
    r"(?<![A-Za-z0-9_.,\\^])(?<!\^\{)(?<!_\{)"
    r"(\d{1,3}(?:,\d{3})+(?![\d.])|(?:0|[1-9]\d*)\.\d*[1-9](?!\d)|[1-9]\d{0,8})(?![A-Za-z0-9_])"
    r"(?!\.\d)(?!,\d)|\b(" + "|".join(_GENDER) + r")\b"
)
_WORDS = re.compile(r"[^\W\d_]+|[\d@]")


class Item(NamedTuple):
    """An item of a benchmark; `of` is its benchmark and line, "made:0" being the first."""

    of: str
    text: str
    answer: str
    short: bool


class Base(NamedTuple):
    """A problem cut at its slots: parts[0] found[0] parts[1] ... found[-1] parts[-1]."""

    parts: tuple[str, ...]
    found: tuple[str, ...]
    genders: tuple[int, ...]
    """Of each slot: 0 or 1 for a name, -1 for a number."""
    lane_slot: int
    """The slot with the first whole number."""
    length: int
    source: str
    group: str
    family: int

    def text(self, slots: "tuple[str, ...] | list[str]") -> str:
        """The problem with its slots filled."""
        pieces = [self.parts[0]]
        for slot, part in zip(slots, self.parts[1:], strict=True):
            pieces += (slot, part)
        return "".join(pieces)

    def values(self, slots: "tuple[str, ...] | list[str]") -> tuple[str, ...]:
        """The numbers of a filled problem, however they are written."""
        return tuple(
            slot.replace(",", "")
            for slot, gender in zip(slots, self.genders, strict=True)
            if gender < 0
        )


def base_of(text: str, source: str, group: str = "") -> Base | None:
    """The text cut at its slots; None where it has no whole number to change."""
    parts, found, genders = [], [], []
    at, lane_slot = 0, -1
    for match in _SLOT.finditer(text):
        parts.append(text[at : match.start()])
        found.append(match[0])
        genders.append(-1 if match[1] else _GENDER[match[2]])
        if lane_slot < 0 and match[1] and "." not in match[0]:
            lane_slot = len(found) - 1
        at = match.end()
    if lane_slot < 0:
        return None
    parts.append(text[at:])
    family = zlib.crc32(mask(text).encode())
    cut = (tuple(parts), tuple(found), tuple(genders), lane_slot, len(text))
    return Base(*cut, source, group, family)


def mask(text: str) -> str:
    """The text without what its slots hold, folded like an id."""
    return normalise(_SLOT.sub(lambda found: "#" if found[1] else "@", text))


def lane_of(base: Base) -> int:
    """The first whole number of a base as it was found."""
    return int(base.found[base.lane_slot].replace(",", ""))


def fill(base: Base, rng: random.Random, lane: int) -> list[str]:
    """New numbers of the old size and new names of the old gender; one name stays one person."""
    slots: list[str] = []
    names: dict[str, str] = {}
    for i, (old, gender) in enumerate(zip(base.found, base.genders, strict=True)):
        if gender < 0:
            slots.append(number(old, rng, lane if i == base.lane_slot else -1))
            continue
        if old not in names:
            choices = texts.BOYS if gender else texts.GIRLS
            while (new := choices[int(rng.random() * len(choices))]) in names.values():
                pass
            names[old] = new
        slots.append(names[old])
    return slots


def number(old: str, rng: random.Random, lane: int) -> str:
    """Another number of about the size and of the form of `old`, of remainder `lane` by 8."""
    if "." in old:
        whole, _, decimals = old.partition(".")
        low = 10 ** (len(decimals) - 1)
        tail = int(rng.random() * 9 * low) + low
        tail += not tail % 10  # 4.20 would be another way to write 4.2
        return f"{number(whole, rng, -1) if whole != '0' else '0'}.{tail}"
    digits = len(old.replace(",", ""))
    low, high = (2, 40) if digits == 1 else (10 ** (digits - 1), 10**digits - 1)
    value = low + int(rng.random() * (high - low + 1))
    if lane >= 0:
        value += (lane - value) % 8
    return f"{value:,}" if "," in old else str(value)


def one_changed(
    base: Base, slots: list[str], rng: random.Random, lane: int, taken: set[int]
) -> list[str]:
    """The slots with one number changed, not made before."""
    numbers = [i for i, gender in enumerate(base.genders) if gender < 0]
    for attempt in range(200):
        i = rng.choice(numbers)
        other = list(slots)
        # Longer numbers where the short ones are all taken.
        old = slots[i] if attempt < 50 else slots[i].replace(",", "") + "0" * (attempt // 50)
        other[i] = number(old, rng, lane if i == base.lane_slot else -1)
        key = hash((base.family, base.values(other)))
        if key not in taken:
            taken.add(key)
            return other
    raise RuntimeError(f"no number left for a sibling of {base.text(slots)!r}")


def is_short(text: str) -> bool:
    """Fewer than eight words, parted by white space; a Chinese sign is a word."""
    return len(re.findall(r"[\u4e00-\u9fff]|[^\s\u4e00-\u9fff]+", text)) < 8


def benchmarks(shared: Path, seed: int) -> list[Item]:
    """The items of the shared benchmarks, where they exist, and of the made one."""
    found = []
    for file in sorted((shared / "benchmarks").glob("*.jsonl")):
        for i, record in enumerate(_records(file)):
            found.append((f"{file.stem}:{i}", record["problem"], str(record["answer"])))
    rng = random.Random(f"benchmark:{seed}")
    made = [(q, a) for kind, rows in HELD_OUT.items() for q, a in _gym(kind, rows, seed)]
    made += [(texts.benchmark_latex(rng), str(rng.randint(2, 5000))) for _ in range(HELD_OUT_LATEX)]
    made += [(texts.benchmark_short(rng), str(rng.randint(2, 5000))) for _ in range(HELD_OUT_SHORT)]
    made = list({normalise(text): (text, answer) for text, answer in made}.values())
    found += [(f"made:{i}", text, answer) for i, (text, answer) in enumerate(made)]
    return [Item(of, text, answer, is_short(text)) for of, text, answer in found]


def collect(shared: Path, seed: int, items: list[Item]) -> list[Base]:
    """All bases, in families, without what shares eight words in a row with a benchmark's item."""
    rng = random.Random(f"bases:{seed}")
    texts_of = [
        *((text, name, "real") for name, text in _real(shared)),
        *(
            (text, kind, kind if kind == "gsm_symbolic" else "gym")
            for kind, rows in KINDS.items()
            for text, _ in _gym(kind, rows, seed)
        ),
        *((texts.latex_problem(rng), "latex", "latex") for _ in range(LATEX)),
    ]
    runs = {run for item in items for run in _runs(item.text)}
    whole = {_squeezed(item.text) for item in items if item.short}
    kept: list[Base] = []
    seen = set()
    for text, source, group in texts_of:
        base = None if _UNFIT.search(text) or len(text) > 900 else base_of(text, source, group)
        if base is None or sum(gender < 0 for gender in base.genders) < 2:
            continue
        squeezed = _squeezed(text)
        if not runs.isdisjoint(_runs(text)) or any(short in squeezed for short in whole):
            continue
        if (key := normalise(text)) not in seen:
            seen.add(key)
            kept.append(base)
    return _families(kept)


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    """Runs of eight words, numbers and names being the same ones everywhere."""
    words = _WORDS.findall(_SLOT.sub(lambda found: " 0 " if found[1] else " @ ", text).lower())
    return (tuple(words[i : i + 8]) for i in range(len(words) - 7))


def _squeezed(text: str) -> str:
    return re.sub(r"[^a-z\u4e00-\u9fff#+*/^=<>\\-]", "", mask(text))


def _families(bases: list[Base]) -> list[Base]:
    """The bases with the number of their family: of a gym kind, or of half the masked 3-grams."""
    shingles = [_shingles(mask(base.text(base.found))) for base in bases]
    parent = list(range(len(bases)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[Any, list[int]] = {}
    bands = _bands(shingles)
    for i, base in enumerate(bases):
        keys = [base.source] if base.group == "gym" else bands[i]
        for key in keys:
            others = first.setdefault(key, [])
            for j in others:
                common = len(shingles[i] & shingles[j])
                if base.group == "gym" or 2 * common >= len(shingles[i] | shingles[j]):
                    parent[root(i)] = root(j)
                    break
            else:
                others.append(i)
    return [base._replace(family=root(i)) for i, base in enumerate(bases)]


def _shingles(text: str) -> set[int]:
    words = _WORDS.findall(text)
    return {zlib.crc32(" ".join(words[i : i + 3]).encode()) for i in range(max(1, len(words) - 2))}


def _bands(shingles: list[set[int]]) -> list[list[tuple[int, int, int, int]]]:
    """MinHash bands, 16 of three: a pair of similarity 0.7 shares none in one of 1,000 cases."""
    rng = np.random.default_rng(0)
    # Factors of 64 bits: with smaller ones the products keep the order of the values.
    a = rng.integers(2**63, 2**64, 48, dtype=np.uint64) | np.uint64(1)
    found = []
    for one in shingles:
        values = np.fromiter(one, np.uint64, len(one))
        hashed = (values[:, None] * a) >> np.uint64(32)
        low = hashed.min(axis=0).reshape(16, 3).tolist()
        found.append([(band, *row) for band, row in enumerate(low)])
    return found


def _real(shared: Path) -> Iterator[tuple[str, str]]:
    for file in sorted((shared / "pool").glob("*.jsonl")):
        name = file.stem.removesuffix("_train")
        if READY[name].domain == "choice":
            continue
        for line, record in enumerate(_records(file), 1):
            row = pool_row(record, READY[name], source=name, file=file.name, line=line)
            if row["reason"] is None:
                yield name, row["question"]


def _gym(kind: str, rows: int, seed: int) -> Iterator[tuple[str, str]]:
    for entry in gym.problems(kind, {}, seed, 0, rows):
        if not isinstance(entry, InvalidRow):
            yield entry["question"], str(json.loads(entry["answer"])["answer"])


def _records(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield json.loads(line)
