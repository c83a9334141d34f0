"""A made-up curation run for the report's tests, with counts that agree with each other.

`python tests/report/sample_run.py FOLDER` writes report.html, README.md and examples.* there.
"""

import copy
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from limo_ray.core.records import problem_id
from limo_ray.report import render_card, render_report
from limo_ray.sampling.stop_rule import Decision, StopRule

SOURCES = ("gsm8k", "asdiv", "gym/gcd", "gym/simple_equations", "gym/prime_factorization")
CRITERIA = {"elaborated": 0.30, "verification": 0.20, "exploratory": 0.25, "granularity": 0.25}
KEYWORDS = {
    "elaborated": [],
    "verification": ["check", "verify"],
    "exploratory": ["perhaps", "might"],
    "granularity": ["therefore", "since"],
}
TEACHERS = ("strong", "teacher-long")

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}"
    "\u2028 \\u0000 </style></textarea>]]>--> \ud800 \x00 "
    r"$\text{<img/src=x/onerror=alert(1)>}$ \[\href{javascript:alert(1)}{x}\] "
    r"$\style{background:url(http://a.b)}{x}$ $\class{x\" onclick=\"alert(1)}{x}$"
)

Run = tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]], dict[str, dict[str, Any]]]


def sample_run(*, rows: int = 480, k: int = 24, words: int = 60, seed: int = 7) -> Run:
    """Manifest, ledger counts, examples and unselected problems of a run over `rows` input rows."""
    rng = random.Random(seed)
    ledger: Counter[tuple[str, str, str | None, str | None]] = Counter()

    def drop(source: str, stage: str, reason: str) -> None:
        ledger[source, "dropped", stage, reason] += 1

    pool = []
    for i in range(rows):
        source = rng.choice(SOURCES)
        fate = rng.random()
        if fate < 0.03:
            drop(source, "sources", "invalid")
        elif fate < 0.08:
            drop(source, "dedup", "duplicate")
        elif fate < 0.10:
            drop(source, "filters", "answer_unverifiable")
        else:
            pool.append((i, source, rng.betavariate(0.5, 0.9)))
    sampled = pool[: int(len(pool) * 0.85)]
    for _, source, _ in pool[len(sampled) :]:
        drop(source, "difficulty", "not_sampled")

    stages = []
    alive = sampled
    for name, rule in (
        ("weak", StopRule(budget=4, keep_min=0, keep_max=0)),
        ("strong", StopRule(budget=16, keep_min=1, keep_max=6)),
    ):
        stage, outcomes = _sample(name, rule, [p for *_, p in alive], rng)
        stages.append(stage)
        for (_, source, _), decision in zip(alive, outcomes, strict=True):
            if decision is not Decision.KEEP:
                drop(source, name, str(decision))
        alive = [a for a, d in zip(alive, outcomes, strict=True) if d is Decision.KEEP]
    kept = len(alive)
    with_chain = [a for a in alive if rng.random() < 0.8]
    for _, source, _ in set(alive) - set(with_chain):
        drop(source, "chains", "no_verified_chain")
    for _, source, _ in with_chain[k:]:
        drop(source, "selection", "not_selected")
    selected = with_chain[:k]
    for _, source, _ in selected:
        ledger[source, "kept", "selection", None] += 1

    examples = sorted(
        (_example(i, source, words, rng) for i, source, _ in selected), key=lambda e: -e["score"]
    )
    manifest = {
        "name": "laptop-demo",
        "status": "done",
        "started": "2025-11-23T09:00:03+00:00",
        "ended": "2025-11-23T09:09:41+00:00",
        "seconds": 578.2,
        "seconds_by_step": {"pool": 21.4, "sampling": 548.0, "publish": 8.8},
        "machine": {"cpus": 2, "gpus": 0, "nodes": 1, "memory_gib": 24.0, "platform": "Linux"},
        "commit": "4f1c0de",
        "command": "python jobs/curate.py conf/curate/laptop.yaml",
        "versions": {"limo_ray": "0.1.0", "vllm": "0.32.0", "ray": "2.60.0", "torch": "2.13.0"},
        "config": {
            "name": "laptop-demo",
            "licence": "apache-2.0",
            "sources": [{"kind": "gym", "size": 40}, {"kind": "jsonl", "path": "pool.jsonl"}],
            "strong": {"rule": {"budget": 16, "keep_min": 1, "keep_max": 6}},
            "select": {"method": "limo", "k": k},
        },
        "fingerprints": {"weak": "0f3c9a7712de4b01", "strong": "b2d94e105c7786aa"},
        "counts": {
            "input": rows,
            "invalid": sum(n for (*_, r), n in ledger.items() if r == "invalid"),
            "duplicate": sum(n for (*_, r), n in ledger.items() if r == "duplicate"),
            "pool": len(pool),
            "sampled": len(sampled),
            "kept": kept,
            "with_chain": len(with_chain),
            "candidates": 2 * len(with_chain),
            "selected": len(selected),
        },
        "sampling": stages,
        "extrapolation": {
            "per": "source",
            "rows": [
                {
                    "group": group,
                    "pool": 1000 * (i + 1),
                    "sampled": 80,
                    "kept": 9 + i,
                    "estimate": 112.5 * (i + 1),
                    "low": 60.0 * (i + 1),
                    "high": 190.0 * (i + 1),
                }
                for i, group in enumerate(SOURCES)
            ],
        },
        "quality": {
            "candidates": 2 * len(with_chain),
            "criteria": [
                {"name": n, "weight": w, "keywords": KEYWORDS[n]} for n, w in CRITERIA.items()
            ],
        },
        "selection": {"method": "limo", "k": k, "selected": len(selected)},
        "shortfall": None
        if len(selected) == k
        else f"Only {len(selected)} of the {k} examples asked for: more problems are needed.",
        "warnings": [],
    }
    counts = [
        {
            "source": source,
            "outcome": outcome,
            "stage": stage,
            "reason": reason,
            "rows": n,
            "sample": [
                {"file": f"{source}.jsonl", "line": 17 * j, "evidence": _evidence(reason)}
                for j in range(1, min(n, 3) + 1)
            ]
            if reason
            else [],
        }
        for (source, outcome, stage, reason), n in ledger.items()
    ]
    rng.shuffle(counts)  # the report must not lean on their order
    unselected = {
        f"{i:032x}": {
            "question": f"Find $x$ with $x^2 = {i * i}$.",
            "answer": str(i),
            "source": source,
            "outcomes": json.dumps([{"stage": "strong", "correct": 2, "finished": 12}]),
        }
        for i, source, _ in with_chain[k:]
    }
    return manifest, counts, examples, unselected


def _sample(
    name: str, rule: StopRule, rates: list[float], rng: random.Random
) -> tuple[dict[str, Any], list[Decision]]:
    """One sampling stage, drawn one by one under the stop rule."""
    outcomes = []
    states: Counter[tuple[int, int]] = Counter()
    verdicts: Counter[str] = Counter()
    correct_lengths, other_lengths = [0] * 10, [0] * 10
    for rate in rates:
        correct = finished = 0
        while (decision := rule.decide(correct, finished)) is None:
            finished += 1
            if rng.random() < rate:
                correct += 1
                verdicts["correct"] += 1
                correct_lengths[min(9, int(rng.lognormvariate(1.1, 0.5)))] += 1
            else:
                verdict = rng.choices(
                    ("wrong", "unparsed", "truncated", "looped", "timeout", "error"),
                    (60, 8, 22, 6, 1, 0.5),
                )[0]
                verdicts[verdict] += 1
                other_lengths[min(9, int(rng.lognormvariate(1.6, 0.5)))] += 1
        outcomes.append(decision)
        states[correct, finished] += 1
    total = sum(verdicts.values())
    reused = total // 5
    stage = {
        "name": name,
        "engine": "cpu",
        "model": "packaged/SmolLM2-135M-Instruct",
        "rule": asdict(rule),
        "sampling": {"temperature": 0.8, "max_tokens": 160},
        "problems": len(rates),
        "decisions": dict(Counter(str(d) for d in outcomes)),
        "attempts": {
            "sampled": total - reused,
            "reused": reused,
            "speculative": total // 25,
            "aborted": 3,
            "beyond": 7,
            "used": total,
            "full_budget": len(rates) * rule.budget,
        },
        "tokens": {"prompt": total * 85, "completion": total * 110},
        "verdicts": dict(verdicts),
        "pass_rate": [[c, f, n] for (c, f), n in states.items()],
        "lengths": {
            "edges": [16.0 * i for i in range(11)],
            "correct": correct_lengths,
            "other": other_lengths,
        },
        "seconds": total * 110 / 243.0,
        "tokens_per_s": 243.0,
    }
    return stage, outcomes


def _example(index: int, source: str, words: int, rng: random.Random) -> dict[str, Any]:
    a, b = rng.randint(2, 60), rng.randint(2, 9)
    question = (
        f"A box holds ${a}$ red and ${a * b}$ blue marbles. What fraction of the marbles is red? "
        f"Write it as $\\frac{{p}}{{q}}$ in lowest terms (box {index}, price \\$5)."
    )
    steps = [
        f"There are \\({a} + {a * b} = {a + a * b}\\) marbles, since both colours count.",
        "\\[\\begin{aligned} r &= \\frac{" + f"{a}" + "}{" + f"{a + a * b}" + "} \\\\ &= \\frac{1}{"
        f"{1 + b}" + "} \\end{aligned}\\]",
        "Perhaps it is worth checking this another way: let me verify.",
        f"The ratio of blue to red is ${b}$, therefore one in ${b + 1}$ is red.",
        f"So $\\sqrt{{{(b + 1) ** 2}}} = {b + 1}$, which might also help.",
    ]
    chain = " ".join(steps[i % len(steps)] for i in range(max(len(steps), words // 12)))
    solution = f"{chain}\n\nThe answer is \\boxed{{\\frac{{1}}{{{b + 1}}}}}."
    scores = {f"score_{name}": rng.gauss(0.3, 1) for name in CRITERIA}
    return {
        "messages": [
            {"role": "system", "content": "Please reason step by step."},
            {"role": "user", "content": question},
            {"role": "assistant", "content": solution},
        ],
        "problem_id": problem_id(question),
        "teacher": rng.choice(TEACHERS),
        "question": question,
        "answer": f"\\frac{{1}}{{{b + 1}}}",
        "source": source,
        "domain": "gym" if source.startswith("gym") else "math",
        "solution": solution,
        "score": sum(scores[f"score_{n}"] * w for n, w in CRITERIA.items()),
        **scores,
        "tokens": len(solution) // 3,
        "pass_rate": f"{rng.randint(1, 6)}/{rng.randint(8, 16)}",
    }


def _evidence(reason: str | None) -> str:
    evidence = {
        "invalid": {"error": "column 'answer' is missing", "columns": ["question"]},
        "duplicate": {"stays": "gsm8k.jsonl:12", "problem_id": "9b1f22c07d4e4f88"},
        "answer_unverifiable": {"answer": "about 7", "verdict": "unparsed"},
        "drop_easy": {"correct": 1, "finished": 1, "budget": 4},
        "drop_hard": {"correct": 0, "finished": 16, "budget": 16},
    }
    return json.dumps(evidence.get(reason or "", {}))


def paths(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key of a nested value, and the first element's keys for a list of dicts."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield (*path, key)
            yield from paths(value, (*path, key))
    elif isinstance(tree, list) and tree and isinstance(tree[0], dict):
        yield from paths(tree[0], (*path, 0))


def without(tree: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    tree = copy.deepcopy(tree)
    inner: Any = tree
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return tree


def write(folder: Path, run: Run) -> None:
    """The files of a run directory that people and `datasets` read."""
    manifest, counts, examples, unselected = run
    folder.mkdir(parents=True, exist_ok=True)
    page = render_report(manifest, counts, examples, unselected)
    (folder / "report.html").write_text(page, encoding="utf-8")
    card = render_card(manifest, counts, examples)
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(examples), folder / "examples.parquet")
    lines = "".join(json.dumps(e) + "\n" for e in examples)
    (folder / "examples.jsonl").write_text(lines, encoding="utf-8")
    (folder / "ledger").mkdir(exist_ok=True)
    ledger = [{k: v for k, v in row.items() if k != "sample"} for row in counts]
    pq.write_table(pa.Table.from_pylist(ledger), folder / "ledger" / "part-0.parquet")


if __name__ == "__main__":
    write(Path(sys.argv[1]), sample_run())
