"""Makes conf/curate/published_sample.parquet: a small data set of generations with known slips.

    python bench/published_sample.py [FILE]

The problems are reasoning_gym's. The attempts are scripted: worked step by step, with a slip of the
pen at a rate that each problem has of its own. The columns are those of OpenR1-Math-220k; of the
labels 3 % are turned round, as those of a data set may be wrong.
"""

import re
import sys
from collections.abc import Callable
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import reasoning_gym

FILE = "conf/curate/published_sample.parquet"
SEED = 5
PROBLEMS = 90  # of each kind
ATTEMPTS = (4, 4, 4, 4, 4, 4, 4, 4, 2, 1)  # at a problem, drawn from these
WRONG_LABELS = 0.03
Slip = Callable[[int], int]


def chain_sum(question: str, slip: Slip) -> tuple[list[str], int]:
    first, *rest = re.findall(r"[-+]? ?\d+", question.partition(": ")[2])
    total, steps = int(first), []
    for term in rest:
        before, total = total, slip(total + int(term.replace(" ", "")))
        steps.append(f"{before} {term} = {total}.")
    return steps, total


def products(question: str, slip: Slip) -> tuple[list[str], int]:
    one, other = map(int, re.findall(r"\d+", question))
    tens, ones = other // 10 * 10, other % 10
    parts = slip(one * tens), slip(one * ones)
    total = sum(parts)
    steps = [f"{one} * {tens} = {parts[0]}.", f"{one} * {ones} = {parts[1]}.",
             f"{parts[0]} + {parts[1]} = {total}."]  # fmt: skip
    return steps, total


def gcd(question: str, slip: Slip) -> tuple[list[str], int]:
    one, other = sorted(map(int, re.findall(r"\d+", question)), reverse=True)
    steps = []
    while other:
        rest = one % other
        steps.append(f"{one} = {one // other} * {other} + {rest}.")
        one, other = other, rest
    return steps, slip(one)


KINDS = {
    chain_sum: {"min_terms": 2, "max_terms": 4, "min_digits": 2, "max_digits": 3},
    products: {"min_terms": 2, "max_terms": 2, "min_digits": 2, "max_digits": 2},
    gcd: {"min_value": 10, "max_value": 900},
}
DOUBTS = ("Wait, let me check that.", "Perhaps I should verify this step.", "This might be off.",
          "Since each step is simple, I go on.", "Therefore the next step follows.")  # fmt: skip


def attempt(work: Callable[[str, Slip], tuple[list[str], int]], question: str, slips: float,
            rng: Random) -> tuple[str, int]:  # fmt: skip
    def slip(value: int) -> int:
        return value + rng.choice((-10, -1, 1, 10)) if rng.random() < slips else value

    steps, answer = work(question, slip)
    told = [f"{step} {rng.choice(DOUBTS)}" if rng.random() < 0.5 else step for step in steps]
    thought = " ".join(["Let me work step by step.", *told])
    return f"<think>\n{thought}\n</think>\n\nThe final answer is \\boxed{{{answer}}}.", answer


def rows() -> list[dict]:
    rng = Random(SEED)
    found = []
    for work, settings in KINDS.items():
        made = reasoning_gym.create_dataset(work.__name__, size=PROBLEMS, seed=SEED, **settings)
        for entry in {entry["question"]: entry for entry in made}.values():
            slips = rng.betavariate(0.9, 1.2)
            drawn = [attempt(work, entry["question"], slips, rng)
                     for _ in range(rng.choice(ATTEMPTS))]  # fmt: skip
            right = [str(answer) == entry["answer"] for _, answer in drawn]
            found.append(
                {
                    "problem": entry["question"],
                    "answer": entry["answer"],
                    "source": f"reasoning_gym/{work.__name__}",
                    "generations": [text for text, _ in drawn],
                    "correctness_math_verify": [
                        not label if rng.random() < WRONG_LABELS else label for label in right
                    ],
                }
            )
    return found


if __name__ == "__main__":
    file = sys.argv[1] if len(sys.argv) > 1 else FILE
    pq.write_table(pa.Table.from_pylist(rows()), file, compression="zstd")
