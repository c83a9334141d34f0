r"""Verdicts per second and core, and their agreement, against math-verify called plainly.

    python bench/verify.py                     each kind of answers, and completions
    python bench/verify.py --limit 20          the first 20 answers and problems of each only
    python bench/verify.py --adversarial 1000  hostile strings: the longest wait, and memory
    python bench/verify.py --make sample.jsonl --model FOLDER    completions of a small model
    python bench/verify.py --data sample.jsonl

Kinds of answers: "plain" are numbers, "textbook" the answers of MATH and a gradeschool set, "LaTeX"
those of them with a command. Each gold answer is held against eight attempts: three are other
answers of the same set and of similar length, two are itself in another spelling, three itself.
They come from ../shared/data; without it, from answers made here. Completions too: without that
folder the packaged model samples some (minutes, once).

"Plainly" is `verify(parse(gold), parse(completion))`, as its documentation shows it. Both sides run
in this process, in turn, with cold caches, imports and first calls excluded; the figure is
processor time. A file of completions has one problem per line: `gt`, the gold answer, and `code`, a
list of completions. Every disagreement is printed with its reason; without one, exit code 1.
"""

import argparse
import asyncio
import json
import logging
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bare import complete  # noqa: E402

from limo_ray.core.records import Problem, problem_id  # noqa: E402
from limo_ray.engines.base import EngineConfig, SamplingConfig  # noqa: E402
from limo_ray.storage import model_files  # noqa: E402
from limo_ray.verify import Verdict, Verifier, extract, verify  # noqa: E402
from limo_ray.verify.domains import easy, forget, hard  # noqa: E402
from limo_ray.verify.worker import WARM_UP  # noqa: E402

SHARED = ROOT.parent / "shared" / "data"
DATA = SHARED / "completions" / "math_cot_100.jsonl"
ANSWERS = 400  # gold answers of a kind
Pair = tuple[str, str]


def load(path: Path, limit: int | None) -> list[tuple[str, list[str]]]:
    """(gold answer, completions) of each problem."""
    with path.open(encoding="utf-8", newline="\n") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    return [(str(row["gt"]), list(row["code"])) for row in rows][:limit]


def answers(kind: str) -> list[str]:
    """Gold answers of a kind, from the shared data or made here."""
    if kind == "plain":
        return _read("benchmarks/amc23", "benchmarks/aime24", "pool/gsm8k_train") or _made(PLAIN)
    textbook = _read("benchmarks/math500", "benchmarks/gradeschool") or _made(PLAIN + LATEX)
    return textbook if kind == "textbook" else [text for text in textbook if "\\" in text]


def _read(*names: str) -> list[str]:
    found: list[str] = []
    for name in names:
        path = SHARED / f"{name}.jsonl"
        if path.exists():
            with path.open(encoding="utf-8", newline="\n") as file:
                rows = [str(json.loads(line)["answer"]) for line in file]
            found += [row.rpartition("#### ")[2].strip("$ ") for row in rows][:ANSWERS]
    return found


PLAIN = ("{a}", "{a}", "{b}", "{a}.5", "{a},{b}00", "{a}/{b}", "{b}\\%")
LATEX = (
    "\\frac{{{a}}}{{{b}}}", "{a}\\sqrt{{{b}}}", "({a}, {b})", "[{a}, {c})", "{a}x^2+{b}x-{c}",
    "\\frac{{{a}\\pi}}{{{b}}}", "x={a}", "{a}, {c}", "(-\\infty, {a}) \\cup ({c}, \\infty)",
    "\\begin{{pmatrix}} {a} \\\\ {b} \\end{{pmatrix}}", "\\frac{{{a}+\\sqrt{{{b}}}}}{{{c}}}",
    "2^{{{a}}}+{b}",
)  # fmt: skip


def _made(forms: tuple[str, ...]) -> list[str]:
    r = random.Random(0)
    numbers = [(r.randint(2, 60), r.randint(2, 30), r.randint(70, 99)) for _ in range(ANSWERS)]
    return [r.choice(forms).format(a=a, b=b, c=c) for a, b, c in numbers]


def look_alike(golds: list[str]) -> list[Pair]:
    """Eight attempts at each answer, three of them other answers of similar length."""
    r = random.Random(1)
    ranked = sorted(set(golds), key=lambda text: (len(text), text))
    pairs = []
    for i, gold in enumerate(ranked):
        near = [text for text in ranked[max(0, i - 10) : i + 11] if text != gold]
        said = r.sample(near, min(3, len(near))) + [spelled(gold)] * 2 + [gold] * 3
        pairs += [(f"${gold}$", f"so the answer is $\\boxed{{{text}}}$.") for text in said]
    return pairs


def spelled(text: str) -> str:
    """The same answer as another writer spells it."""
    text = text.replace("\\frac", "\\dfrac").replace("\\left", "").replace("\\right", "")
    return text.replace(", ", ",").replace("+", " + ").replace("sqrt2", "sqrt{2}")


def theirs(pair: Pair) -> bool:
    """math-verify's verdict, plainly."""
    import math_verify

    gold, completion = pair
    return bool(math_verify.verify(math_verify.parse(gold), math_verify.parse(completion)))


def forget_theirs() -> None:
    """Empty math-verify's caches too."""
    from math_verify import parser

    for name in ("parse_latex_cached", "parse_expr_cached", "extract_latex"):
        getattr(parser, name).cache_clear()


def seconds(judge: Callable[[Pair], object], pairs: list[Pair]) -> float:
    """Processor time of judging all pairs once, from cold caches."""
    forget()
    forget_theirs()
    began = time.process_time()
    for pair in pairs:
        judge(pair)
    return time.process_time() - began


def compare_speed(name: str, pairs: list[Pair], repeats: int) -> float:
    """Print pairs/s of both, the median over repeats in turn, and their ratio."""
    ours_s, theirs_s = [], []
    for _ in range(repeats):
        ours_s.append(seconds(lambda pair: verify(*pair), pairs))
        theirs_s.append(seconds(theirs, pairs))
    ours_rate = len(pairs) / statistics.median(ours_s)
    theirs_rate = len(pairs) / statistics.median(theirs_s)
    ratio = statistics.median(t / o for o, t in zip(ours_s, theirs_s, strict=True))
    with Verifier() as verifier:
        verifier.start()
        walls = []
        for _ in range(repeats):
            forget()
            verifier.clear()
            began = time.perf_counter()
            verifier.verify_many([(gold, completion, "math") for gold, completion in pairs])
            walls.append(time.perf_counter() - began)
    pooled = len(pairs) / statistics.median(walls)
    print(
        f"{name:22} {len(pairs):6} pairs  ours {ours_rate:8.0f}/s   theirs {theirs_rate:5.0f}/s"
        f"   ratio {ratio:5.0f}   (Verifier, wall clock: {pooled:.0f}/s)"
    )
    return ratio


def reason(gold: str, completion: str, ours: bool) -> str:
    """Why the two disagree, and who is right; empty when that needs a reader."""
    import math_verify

    bare = math_verify.parse(gold)
    spelled = math_verify.parse(f"${gold}$", (math_verify.LatexExtractionConfig(),))
    values = [value for value in spelled if not isinstance(value, str)]
    if not values:
        return "ours: math-verify reads no expression in the gold answer; the texts say the same"
    if math_verify.verify(spelled, math_verify.parse(completion)) == ours:
        if not bare:
            return "ours: math-verify finds nothing in the gold answer as it stands"
        return f"ours: math-verify reads the bare gold answer as {bare[0]}, with dollars it agrees"
    return ""


def compare_verdicts(pairs: list[Pair]) -> int:
    """Print the table of agreement and every disagreement; the number of those unexplained."""
    table: Counter[str] = Counter()
    disagreements: Counter[tuple[str, str, str, bool, str]] = Counter()
    for gold, completion in pairs:
        verdict, other = verify(gold, completion), theirs((gold, completion))
        if (verdict is Verdict.CORRECT) == other:
            table[f"same: {verdict}"] += 1
            continue
        why = reason(gold, completion, verdict is Verdict.CORRECT)
        table["ours right" if why else "theirs right, or unexplained"] += 1
        said = extract(completion) or ""
        disagreements[gold, said, verdict.value, other, why or "UNEXPLAINED"] += 1
    hard = sum(easy(g, extract(c) or "", "math") is None for g, c in pairs)
    print(f"\nAgreement over {len(pairs)} pairs ({hard} took the slow path)")
    for name, count in sorted(table.items()):
        print(f"  {name:30} {count:6}")
    for (gold, said, ours, other, why), count in disagreements.items():
        print(f"  {count:4} x gold {gold!r}, answer {said!r}: ours {ours}, theirs {other}. {why}")
    return table["theirs right, or unexplained"]


def adversarial(count: int, seed: int, timeout_s: float) -> int:
    """Judge hostile strings; the number of broken promises."""
    from tests.verify.adversarial import adversarial as hostile

    with tempfile.TemporaryDirectory() as folder, Verifier(timeout_s=timeout_s) as verifier:
        canary = Path(folder) / "canary"
        os.environ["CANARY"] = str(canary)
        verifier.start()
        verdicts: Counter[str] = Counter()
        waits: list[float] = []
        late: list[tuple[float, str]] = []
        for done, (answer, completion, domain) in enumerate(hostile(count, seed), 1):
            began = time.perf_counter()
            judged = verifier.check(answer, completion, domain)
            waits.append(time.perf_counter() - began)
            verdicts[f"{domain} {judged.verdict}"] += 1
            if waits[-1] > timeout_s + 1:
                late.append((waits[-1], ascii(completion[:80])))
            if done % 5000 == 0:
                print(f"  {done} done, {sum(waits):.0f} s, at most {max(waits):.2f} s", flush=True)
        print(
            f"{count} hostile strings (seed {seed}), limit {timeout_s} s: {sum(waits):.0f} s in all"
        )
        for name, number in sorted(verdicts.items()):
            print(f"  {name:24} {number:6}")
        ranked = sorted(waits)
        print(f"  longest {ranked[-1]:.2f} s, 99 % within {ranked[len(ranked) * 99 // 100]:.3f} s")
        for wait, completion in late[:20]:
            print(f"  LATE {wait:.2f} s: {completion}")
        print(f"  executed outside the sandbox: {'YES' if canary.exists() else 'nothing'}")
        broken = len(late) + canary.exists()
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"  peak memory: {own:.0f} MB here, {workers:.0f} MB in a worker")
    return broken


def make(path: Path, model: str, problems: int, attempts: int) -> None:
    """Write completions of a small model for sums, gcds and the like, for want of a data set."""
    import reasoning_gym

    kinds = ["basic_arithmetic", "gcd", "fraction_simplification", "simple_equations"]
    rows = [
        reasoning_gym.create_dataset(kinds[i % len(kinds)], size=1, seed=i)[0]
        for i in range(problems)
    ]
    config = EngineConfig(
        model=model, device="cpu", dtype="bfloat16", max_num_seqs=64, max_model_len=512,
        kv_cache_gib=1, eager=True,
    )  # fmt: skip
    pool = [
        Problem(id=problem_id(row["question"]), question=row["question"], answer="", source="")
        for row in rows
    ]
    sampling = SamplingConfig(temperature=0.8, max_tokens=192)
    done, _ = asyncio.run(complete(config, sampling, pool, attempts))
    texts = [completion.text for completion in done]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        for i, row in enumerate(rows):
            drawn = texts[i * attempts : (i + 1) * attempts]
            file.write(json.dumps({"gt": str(row["answer"]), "code": drawn}) + "\n")
    part.rename(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--limit", type=int, help="problems")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--adversarial", type=int, metavar="COUNT", default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=1.0, help="seconds, with --adversarial")
    parser.add_argument("--make", type=Path, metavar="FILE", help="sample completions into a file")
    parser.add_argument("--model", default=model_files.PACKAGED, help="with --make")
    parser.add_argument("--problems", type=int, default=40, help="with --make")
    parser.add_argument("--attempts", type=int, default=8, help="with --make")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if args.make:
        make(args.make, args.model, args.problems, args.attempts)
        return 0
    if args.adversarial:
        return min(1, adversarial(args.adversarial, args.seed, args.timeout))
    if args.data == DATA and not DATA.exists():
        args.data = model_files.CACHE / "bench" / "completions.jsonl"
        if not args.data.exists():
            print(f"making {args.data} with {args.model}: some minutes", flush=True)
            make(args.data, args.model, args.problems, args.attempts)
    if not args.data.exists():
        parser.error(f"{args.data} is not there")
    problems = load(args.data, args.limit)
    several = [(gold, completion) for gold, texts in problems for completion in texts]
    single = [(gold, texts[0]) for gold, texts in problems if texts]
    for gold, said in WARM_UP:
        hard(gold, said, "math")
        theirs((f"${gold}$", f"\\boxed{{{said}}}"))
    for kind in ("plain", "textbook", "LaTeX"):
        pairs = look_alike(answers(kind)[: args.limit])
        compare_speed(kind, pairs, args.repeats)
        different = sum((verify(*pair) is Verdict.CORRECT) != theirs(pair) for pair in pairs)
        print(f"{'':22} {different:6} verdicts differ")
    compare_speed("completions, 8 each", several, args.repeats)
    compare_speed("completions, 1 each", single, args.repeats)
    return min(1, compare_verdicts(several))


if __name__ == "__main__":
    sys.exit(main())
