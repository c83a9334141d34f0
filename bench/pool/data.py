"""Pools of any size with planted duplicates and contaminations, the truth kept beside them.

    python bench/pool/data.py FOLDER --rows 1000000 --seed 0

Writes FOLDER/pool/a-*.jsonl and b-*.jsonl (uid, question, answer: two sources), FOLDER/benchmarks/
<name>.jsonl (problem, answer), FOLDER/truth.parquet (one row for each planted row: uid, kind, `of`
the uid or "<benchmark>:<line>" that it was made from, jaccard of the sets of word 3-grams of both)
and FOLDER/made.json. The same arguments give the same bytes, with any number of workers.

Most rows are problems with new numbers and names: of reasoning_gym, of LaTeX parts put together
and, where they exist, of the real pools in ../shared/data. Their answers are made up, a copy has
the answer of its original. A row whose kind is not in the truth is clean: no other row has its
wording with its numbers, and none of its runs of eight words is in a benchmark. What is planted:

    exact              the same text, or other case and white space
    near_case_spacing_punctuation, near_latex, near_words      another text of the same problem
    sibling            the same text with one other number, so another problem: it must stay
    contam_verbatim, contam_embedded, contam_reformatted       an item of a benchmark
    contam_short_verbatim, contam_short_embedded, contam_short_reformatted    one below eight words
    clean_like, clean_like_short    wording of the made benchmark, other numbers: they must stay
"""

import argparse
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

import bases  # noqa: E402
import texts  # noqa: E402
from bases import Base, Item  # noqa: E402
from score import CONTAMINATIONS, LIKE, NEAR, SHORT, score  # noqa: E402

from limo_ray.core.records import normalise  # noqa: E402

__all__ = ["Shares", "counts", "jaccard", "make", "score"]

SHARED = ROOT.parent / "shared" / "data"
LANES = 8  # made independently; a row's first whole number says its lane, so no two share a row
CHUNK = 50_000  # rows shuffled together
TRUTH = pa.schema(
    [("uid", pa.string()), ("kind", pa.string()), ("of", pa.string()), ("jaccard", pa.float64())]
)
_WORDS = re.compile(r"\w+")


class Shares(NamedTuple):
    """Shares of all rows that are planted; each at least LEAST rows of a kind where it is not 0."""

    exact: float = 0.05
    near: float = 0.05
    sibling: float = 0.02
    contamination: float = 0.001
    like: float = 0.001


LEAST = 200


def counts(rows: int, shares: Shares) -> dict[str, int]:
    """Rows of each planted kind; at most a quarter of all rows in total."""
    groups = {
        ("exact",): shares.exact,
        NEAR: shares.near,
        ("sibling",): shares.sibling,
        CONTAMINATIONS + SHORT: shares.contamination,
        LIKE: shares.like,
    }
    least = min(LEAST, rows // 100)
    found = {
        kind: max(least, round(rows * share / len(kinds)))
        for kinds, share in groups.items()
        if share
        for kind in kinds
    }
    if sum(found.values()) > rows / 2:
        raise ValueError(f"rows: {rows} rows hold no {sum(found.values())} planted ones")
    return found


def jaccard(one: str, other: str) -> float:
    """Similarity of the sets of word 3-grams of two texts, lower-cased; of words if shorter."""
    a, b = _WORDS.findall(one.lower()), _WORDS.findall(other.lower())
    n = min(3, len(a), len(b))
    x = {tuple(a[i : i + n]) for i in range(len(a) - n + 1)}
    y = {tuple(b[i : i + n]) for i in range(len(b) - n + 1)}
    return len(x & y) / len(x | y) if x | y else 1.0


def make(
    folder: Path,
    rows: int,
    seed: int = 0,
    shared: Path = SHARED,
    shares: Shares | None = None,
    workers: int = 2,
) -> dict[str, Any]:
    """Write a pool of `rows` rows; the counts of what was made. ValueError for too few rows.

    `shared` may be absent: then the problems are reasoning_gym's and LaTeX only, the benchmark the
    made one.
    """
    planted = counts(rows, shares or Shares())
    began = time.perf_counter()
    for name in ("pool", "benchmarks", "truth"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for old in (folder / name).iterdir():
            old.unlink()
    items = bases.benchmarks(shared, seed)
    _write_benchmarks(folder / "benchmarks", items)
    pool = bases.collect(shared, seed, items)
    jobs = [(folder, lane, _lane(rows, lane), planted, seed, pool, items) for lane in range(LANES)]
    with get_context("fork").Pool(workers) as processes:
        made = processes.starmap(_make_lane, jobs, chunksize=1)
    with pq.ParquetWriter(folder / "truth.parquet", TRUTH) as writer:
        for lane in range(LANES):
            writer.write_table(pq.read_table(folder / "truth" / f"{lane}.parquet"))
            (folder / "truth" / f"{lane}.parquet").unlink()
    (folder / "truth").rmdir()
    kinds: Counter[str] = sum((Counter(found["kinds"]) for found in made), Counter())
    report = {
        "rows": rows,
        "seed": seed,
        "characters": sum(found["characters"] for found in made) / rows,
        "bases": dict(Counter(base.source for base in pool)),
        "items": dict(Counter(item.of.partition(":")[0] for item in items)),
        "kinds": dict(sorted(kinds.items())),
    }
    (folder / "made.json").write_text(json.dumps(report, indent=1))
    return report | {"seconds": time.perf_counter() - began}


def _lane(total: int, lane: int) -> int:
    return total // LANES + (lane < total % LANES)


def _write_benchmarks(folder: Path, items: list[Item]) -> None:
    for item in items:
        with (folder / f"{item.of.partition(':')[0]}.jsonl").open("a", encoding="utf-8") as file:
            row = {"problem": item.text, "answer": item.answer}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _make_lane(
    folder: Path,
    lane: int,
    rows: int,
    planted: dict[str, int],
    seed: int,
    pool: list[Base],
    items: list[Item],
) -> dict[str, Any]:
    """The rows of one lane, written; numbers of rows of each kind and of characters."""
    rng = random.Random(f"{seed}:{lane}")
    truth: dict[str, list[Any]] = {name: [] for name in TRUTH.names}
    kinds: Counter[str] = Counter()
    characters = 0
    files = {
        name: (folder / "pool" / f"{name}-{lane:03}.jsonl").open("w", encoding="utf-8")
        for name in ("a", "b")
    }
    # Rows wait here for a random part of the output, so copies are far from their originals.
    parts: list[list[str]] = [[] for _ in range(-(-rows // CHUNK))]
    written = 0
    share = {kind: _lane(number, lane) for kind, number in planted.items()}
    for number, row in enumerate(_rows(rng, lane, rows, share, pool, items)):
        uid = f"{lane}-{number}"
        if row.kind != "clean":
            # A copy comes right after its original and names it by the distance.
            of = row.of or f"{lane}-{number - row.back}"
            for name, value in zip(TRUTH.names, (uid, row.kind, of, row.jaccard), strict=True):
                truth[name].append(value)
        kinds[row.kind] += 1
        characters += len(row.text)
        line = {"uid": uid, "question": row.text, "answer": row.answer}
        open_part = min(number // CHUNK, len(parts) - 1)
        part = open_part if row.kind == "clean" else rng.randrange(open_part, len(parts))
        parts[part].append(json.dumps(line, ensure_ascii=False) + "\n")
        while written < open_part:
            _flush(parts, written, files, rng)
            written += 1
    for part in range(written, len(parts)):
        _flush(parts, part, files, rng)
    for file in files.values():
        file.close()
    pq.write_table(pa.table(truth, TRUTH), folder / "truth" / f"{lane}.parquet")
    return {"kinds": kinds, "characters": characters}


def _flush(parts: list[list[str]], part: int, files: dict[str, Any], rng: random.Random) -> None:
    rng.shuffle(parts[part])
    for line in parts[part]:
        files["a" if rng.random() < 0.6 else "b"].write(line)
    parts[part] = []


class Row(NamedTuple):
    """A row to be; `back` is how many rows ago its original came, `of` the item it was made of."""

    text: str
    answer: str
    kind: str = "clean"
    back: int = 0
    of: str = ""
    jaccard: float = 1.0


def _rows(
    rng: random.Random,
    lane: int,
    rows: int,
    planted: dict[str, int],
    pool: list[Base],
    items: list[Item],
) -> Iterator[Row]:
    """The rows of a lane: clean rows in turn, each followed by its copies; then the others."""
    clean = rows - sum(planted.values())
    copies: dict[int, list[str]] = {}
    for kind in ("exact", *NEAR, "sibling"):
        for _ in range(planted.get(kind, 0)):
            copies.setdefault(rng.randrange(clean), []).append(kind)
    taken: set[int] = set()
    others = [kind for kind in CONTAMINATIONS + SHORT + LIKE for _ in range(planted.get(kind, 0))]
    rng.shuffle(others)
    made = [item for item in items if item.of.startswith("made:")]
    likes = [base for item in made if (base := bases.base_of(item.text, item.of))]
    for base in likes:  # so that nothing like the benchmark is the benchmark
        taken.add(hash((base.family, base.values(base.found))))
    owed = 0.0
    draw = _drawer(rng, lane, pool, taken)
    for number in range(clean):
        wanted = copies.get(number, [])
        base, original, front = draw("near_latex" in wanted)
        text = base.text(original) if not front else f"{front} {base.text(original)}"
        answer = str(rng.randint(2, 5000))
        yield Row(text, answer)
        for back, kind in enumerate(wanted, 1):
            copy = _copy(kind, text, rng)
            if kind == "sibling":
                other = bases.one_changed(base, original, rng, lane, taken)
                copy = base.text(other) if not front else f"{front} {base.text(other)}"
            yield Row(copy, answer, kind, back=back, jaccard=jaccard(text, copy))
        # Spread over the lane, the last ones with its last clean row.
        owed += len(others) / (clean - number)
        while owed >= 1 and others:
            yield _other(others.pop(), rng, lane, items, likes, taken)
            owed -= 1
    while others:
        yield _other(others.pop(), rng, lane, items, likes, taken)


def _drawer(rng: random.Random, lane: int, pool: list[Base], taken: set[int]) -> Any:
    """A function that gives a problem not given before: its base, its slots and a context."""
    groups: dict[str, list[Base]] = {}
    for base in pool:
        groups.setdefault(base.group, []).append(base)
    names = list(groups)
    weights = list(accumulate(bases.WEIGHTS[name] for name in names))
    # Each base once as it was found, as long as they last.
    found = [base for base in pool if bases.lane_of(base) % LANES == lane]
    rng.shuffle(found)

    def draw(latex: bool) -> tuple[Base, list[str], str]:
        while True:
            if found and not latex and rng.random() < 0.25:
                base = found.pop()
                slots = list(base.found)
            else:
                group = groups["latex" if latex else rng.choices(names, cum_weights=weights)[0]]
                base = group[int(rng.random() * len(group))]
                slots = bases.fill(base, rng, lane)
            key = hash((base.family, base.values(slots)))
            if key in taken:
                continue
            taken.add(key)
            # Short problems get company: 230 characters on average.
            length = base.length
            some = 0 if length > 230 else 1 + (length < 90) if rng.random() < 0.7 else 0
            return base, slots, " ".join(texts.context(rng) for _ in range(some))

    return draw


def _copy(kind: str, text: str, rng: random.Random) -> str:
    if kind == "exact":
        style = rng.randrange(4)
        if style < 2:
            return text
        changed = texts.recase(text, rng) if style == 2 else texts.respace(text, rng)
        return changed if normalise(changed) == normalise(text) else text
    while True:
        if kind == "near_words":
            copy = texts.reword(text, rng)
        elif kind == "near_latex":
            copy = texts.restyle(text, rng)
        else:
            copy = texts.repunctuate(text, rng)
            copy = texts.recase(copy, rng) if rng.random() < 0.5 else copy
            copy = texts.respace(copy, rng) if rng.random() < 0.5 else copy
        if kind == "sibling" or normalise(copy) != normalise(text):
            return copy


def _other(
    kind: str,
    rng: random.Random,
    lane: int,
    items: list[Item],
    likes: list[Base],
    taken: set[int],
) -> Row:
    """A contamination, or a row that only looks like one."""
    short = "_short" in kind
    if kind in LIKE:
        while True:
            base = rng.choice(likes)
            if bases.is_short(base.text(base.found)) != short:
                continue
            slots = bases.fill(base, rng, lane)
            key = hash((base.family, base.values(slots)))
            if key not in taken:
                break
        taken.add(key)
        text, seen = base.text(slots), base.text(base.found)
        return Row(
            text, str(rng.randint(2, 5000)), kind, of=base.source, jaccard=jaccard(seen, text)
        )
    item = rng.choice([item for item in items if item.short == short])
    text = item.text
    if kind.endswith("embedded"):
        front = [texts.context(rng) for _ in range(rng.randint(1, 2))]
        back = [texts.context(rng) for _ in range(rng.randint(1, 2))]
        text = " ".join([*front, text, *back])
    elif kind.endswith("reformatted"):
        text = texts.reformat(text, rng)
    return Row(text, item.answer, kind, of=item.of, jaccard=jaccard(item.text, text))


def main() -> None:
    """The command of the module's first lines."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--workers", type=int, default=2)
    for name, value in Shares()._asdict().items():
        parser.add_argument(f"--{name}", type=float, default=value, help="share of all rows")
    given = parser.parse_args()
    shares = Shares(*(getattr(given, name) for name in Shares._fields))
    made = make(given.folder, given.rows, given.seed, given.shared, shares, given.workers)
    print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
