"""The report: its numbers agree with the run, hostile text stays text, missing keys are no harm."""

import copy
import random
import re
from typing import Any

import pytest

from limo_ray.report import render_report
from limo_ray.report.example_browser import PAGE_BUDGET
from tests.report.pages import Page, assert_harmless, unpacked
from tests.report.sample_run import CRITERIA, HOSTILE, Run, paths, sample_run, without


@pytest.fixture(scope="module")
def run() -> Run:
    return sample_run()


def test_page_is_well_formed_and_needs_nothing_from_outside(run: Run) -> None:
    text = render_report(*run)
    page = Page(text)
    assert_harmless(page)
    assert "default-src 'none'" in text
    tags = [tag for tag, _ in page.elements]
    assert next(t for t in tags if re.fullmatch("h[1-6]", t)) == "h1"
    assert tags.count("h1") == 1
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for t, a in page.elements if t == "a" and a.get("href")}
    assert targets <= set(ids)
    assert all(a.get("aria-label") for t, a in page.elements if t == "svg")
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_counts_agree_with_the_ledger_and_add_up(run: Run) -> None:
    manifest, counts, examples, problems = run
    text = Page(render_report(*run)).text
    total = sum(r["rows"] for r in counts)
    assert total == manifest["counts"]["input"]
    steps = re.findall(r"\s.([\d,]+), leaves\s+([\d,]+)", text)
    left = total
    for dropped, leaves in steps:
        left -= int(dropped.replace(",", ""))
        assert left == int(leaves.replace(",", ""))
    assert left == len(examples) == manifest["counts"]["selected"]
    assert f"{total:,} rows came in: {left} kept and {total - left} dropped" in text
    # in the order of the pipeline, although the counts come shuffled
    stages = " ".join(re.findall(r"([a-z]+)\s+.[\d,]+, leaves", text))
    assert stages == "sources filters dedup difficulty weak strong chains selection"
    for row in counts:
        if row["reason"]:
            assert row["reason"] in text
    assert "does not add up" not in text
    assert f"{len(problems)} problems" in text


def test_headline_tells_the_result_and_the_saving(run: Run) -> None:
    manifest, *_ = run
    page = render_report(*run)
    pool, selected = manifest["counts"]["pool"], manifest["counts"]["selected"]
    assert f"<h1>{selected} of {pool} problems selected.</h1>" in page
    full = sum(s["attempts"]["full_budget"] for s in manifest["sampling"])
    used = sum(s["attempts"]["sampled"] + s["attempts"]["reused"] for s in manifest["sampling"])
    fewer = 1 - used / full
    beyond = 7 * len(manifest["sampling"])
    assert f"{beyond} more were under way when the target was reached." in page
    assert f"{used:,} attempts, {fewer:.0%} fewer than their full budget of {full:,}." in page


def test_a_ledger_that_does_not_add_up_is_said(run: Run) -> None:
    manifest, counts, examples, problems = run
    page = render_report(manifest, counts[1:], examples, problems)
    assert "The ledger does not add up" in page


def test_charts_hold_every_problem_and_every_attempt(run: Run) -> None:
    manifest, *_ = run
    text = render_report(*run)
    for stage in manifest["sampling"]:
        figure = re.search(
            rf"<figcaption>Pass rate when decided: {stage['name']}</figcaption>.*?</figure>", text
        )
        assert figure
        legend = dict(re.findall(r"</span>([a-z ]+) <b>([\d,]+)</b>", figure[0]))
        assert legend.pop("keep") == str(stage["decisions"]["keep"])
        assert sum(map(int, legend.values())) == stage["problems"] - stage["decisions"]["keep"]
        cells = re.findall(r'<td class="n">([\d,]+)</td>', figure[0])
        assert sum(int(c.replace(",", "")) for c in cells) == stage["problems"]
    verdicts = re.search(r"<figcaption>Verdicts</figcaption>.*?</figure>", text)
    assert verdicts
    for name in ("correct", "wrong", "truncated", "looped"):
        both = sum(s["verdicts"][name] for s in manifest["sampling"])
        assert f"{name} <b>{both:,}</b>" in verdicts[0]


def test_stopped_run_says_so(run: Run) -> None:
    manifest, counts, _, _ = run
    page = render_report({**manifest, "status": "stopped"}, counts, [], {})
    assert "stopped before its end" in page
    assert "No example was selected" in page


@pytest.mark.parametrize("path", [(), *paths(sample_run(rows=60, k=3)[0])], ids=str)
def test_any_key_may_be_missing(path: tuple[Any, ...]) -> None:
    manifest, counts, examples, problems = sample_run(rows=60, k=3)
    manifest = without(manifest, path) if path else {}
    Page(render_report(manifest, counts, examples[:1], problems))


def test_nothing_at_all_is_still_a_page() -> None:
    Page(render_report({}, [], [], {}))


@pytest.mark.parametrize("column", sorted(sample_run(rows=60, k=1)[2][0]))
def test_any_column_of_an_example_may_be_missing_or_null(run: Run, column: str) -> None:
    example = run[2][0]
    null = {**example, column: None}
    absent = {k: v for k, v in example.items() if k != column}
    page = render_report({}, [], [null, absent, {**example, "score": float("nan")}], {})
    Page(page)
    assert len(unpacked(page)) == 3


def test_hostile_text_stays_text(run: Run) -> None:
    manifest, counts, examples, _ = copy.deepcopy(run)
    for key in ("name", "command", "commit", "shortfall", "started"):
        manifest[key] = HOSTILE
    manifest["warnings"] = [HOSTILE]
    manifest["config"][HOSTILE] = HOSTILE
    manifest["versions"][HOSTILE] = HOSTILE
    manifest["fingerprints"][HOSTILE] = HOSTILE
    manifest["selection"]["method"] = HOSTILE
    manifest["extrapolation"]["rows"][0]["group"] = HOSTILE
    manifest["quality"]["criteria"][0]["name"] = HOSTILE
    for stage in manifest["sampling"]:
        stage["name"] = stage["engine"] = stage["model"] = HOSTILE
    for row in counts:
        row["source"] = HOSTILE
        for sample in row["sample"]:
            sample["file"] = sample["evidence"] = HOSTILE
        if row["reason"]:
            row["stage"] = row["reason"] = HOSTILE
    for example in examples:
        for key in ("question", "answer", "source", "domain", "teacher", "solution", "problem_id"):
            example[key] = HOSTILE
        example["score_" + HOSTILE] = 1.0
    problem = dict.fromkeys(("question", "answer", "source"), HOSTILE)

    text = render_report(manifest, counts, examples, {HOSTILE: problem})
    page = Page(text)
    text.encode("utf-8")
    assert_harmless(page)
    assert [t for t, _ in page.elements].count("script") == 2
    assert "{{ 7*7 }}" in page.text
    for row in unpacked(text):
        for part in ("head", "body"):
            assert "\0" not in row[part]
            row[part].encode("utf-8")
            inside = Page(row[part])
            assert_harmless(inside)
            assert "script" not in [t for t, _ in inside.elements]
            assert not any("style" in a for _, a in inside.elements)


def test_examples_hold_answer_scores_and_maths(run: Run) -> None:
    rows = unpacked(render_report(*run))
    _, _, examples, _ = run
    assert len(rows) == len(examples)
    for row, example in zip(rows, examples, strict=True):
        body = Page(row["body"])
        tags = [t for t, _ in body.elements]
        assert "mfrac" in tags and "menclose" in tags and "mtable" in tags
        assert "Gold answer" in body.text and "Pass rate" in body.text
        assert row["sort"]["score"] == example["score"]
        assert {f"score_{c}" for c in CRITERIA} <= row["sort"].keys()
        assert row["source"] == example["source"] and row["teacher"] == example["teacher"]


def test_thinking_is_apart_from_the_answer(run: Run) -> None:
    example = {**run[2][0], "solution": "<think>Let me check $x^2$.</think>\nSo \\boxed{4}."}
    body = unpacked(render_report({}, [], [example], {}))[0]["body"]
    assert "think" in body and "<think>" not in Page(body).text
    assert body.index("Let me check") < body.index("menclose")


def test_long_chains_are_shortened_in_the_middle_until_the_page_is_small(run: Run) -> None:
    # Random words do not compress, so this is worse than any real run.
    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(rng.choices(letters, k=7)) for _ in range(30_000)]
    examples = []
    for i in range(800):
        text = " ".join(rng.choices(words, k=1000))
        examples.append({**run[2][0], "solution": f"START{i} {text} \\boxed{{{i}}} END{i}"})
    page = render_report(run[0], run[1], examples, {})
    assert len(page.encode()) < 3_000_000
    rows = unpacked(page)
    assert len(rows) == 800
    assert "characters not shown" in rows[799]["body"]
    assert "START799" in rows[799]["body"] and "END799" in rows[799]["body"]
    assert len(page) < PAGE_BUDGET + 400_000
    assert "800 long chains are shortened" in page
