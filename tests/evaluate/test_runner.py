"""A whole evaluation on the scripted engine: results, resuming, breakdown, contamination."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from limo_ray.attempts.parts import read_table
from limo_ray.core import config as configs
from limo_ray.core.prompts import example_messages
from limo_ray.core.records import ATTEMPT, Attempt, Verdict
from limo_ray.evaluate import attempts as attempts_module
from limo_ray.evaluate import results
from limo_ray.evaluate.attempts import ModelAttempts, stages
from limo_ray.evaluate.config import BenchmarkConfig, EvaluateConfig, ProtocolConfig
from limo_ray.evaluate.contamination import training_data
from limo_ray.evaluate.items import read_items
from limo_ray.evaluate.outline import outline
from limo_ray.evaluate.results_table import markdown
from limo_ray.evaluate.runner import evaluate
from limo_ray.problems.sources import SourceConfig
from limo_ray.storage.store import Store
from tests import processes
from tests.evaluate.server import Served
from tests.evaluate.test_endpoint import ENGINE
from tests.report.pages import Page, assert_harmless, unpacked

ROOT = Path(__file__).parents[2]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def sums(numbers, plus):
    return [
        {"question": f"What do the apples {n} and {plus} of the old farmer come to in all?",
         "answer": str(n + plus), "level": n % 3} for n in numbers
    ]  # fmt: skip


@pytest.fixture(scope="module")
def exams(tmp_path_factory):
    """Two benchmarks, which share twenty questions."""
    folder = tmp_path_factory.mktemp("exams")
    return {
        "easy": write(folder / "easy.jsonl", sums(range(40), 1)),
        "hard": write(folder / "hard.jsonl", sums(range(20, 60), 1)),
    }


def arguments(exams, store, *more):
    benchmarks = [
        {"name": name, "protocol": protocol, "by": ["level"],
         "source": {"path": exams[name], "question": "question", "answer": "answer"}}
        for name, protocol in (("easy", "twice"), ("hard", "often"))
    ]  # fmt: skip
    sampling = "sampling: {temperature: 0.7, max_tokens: 120}"
    return [
        f"store={store}", "model=scripted", "name=test", "sampler.flush_s=0.2",
        "benchmarks=" + json.dumps(benchmarks),
        f"protocols={{twice: {{attempts: 2, {sampling}}},"
        f" often: {{attempts: 4, pass_at: [2, 4], {sampling}}}}}",
        "engine={kind: scripted, device: cpu, num_cpus: 0.4, max_num_seqs: 16, seed: 3,"
        " script: {tokens: 60, unparsed: 0.1}}",
        *more,
    ]  # fmt: skip


def run(exams, store, *more):
    return evaluate(configs.load(EvaluateConfig, arguments(exams, store, *more)), "cpu")


def logged(store):
    found = []
    for folder in sorted((store / "attempts").iterdir()):
        table = read_table(Store(str(folder)), "", ["problem_id", "index"])
        found += zip(table["problem_id"].to_pylist(), table["index"].to_pylist(), strict=True)
    return sorted(found)


@pytest.fixture(scope="module")
def done(local_ray, exams, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    return store, run(exams, store)


def test_results_are_whole(done):
    store, result = done
    folder = store / "evaluations/test"
    found = json.loads((folder / "results.json").read_text())
    (one,) = found["runs"]
    assert [b["name"] for b in found["benchmarks"]] == ["easy", "hard"]
    assert one["scores"]["easy"]["attempts"] == 80 and one["scores"]["hard"]["attempts"] == 160
    for score in one["scores"].values():
        assert sum(score["verdicts"].values()) == score["attempts"]
        assert sum(score["shares"].values()) == pytest.approx(1)
        assert score["pass@1"]["low"] <= score["pass@1"]["value"] <= score["pass@1"]["high"]
        assert set(score["by"]["level"]) == {"0", "1", "2"}
        assert score["by_budget"][-1][1] == pytest.approx(score["pass@1"]["value"])
        assert score["tokens"]["max"] <= 120
    hard = one["scores"]["hard"]
    assert hard["pass@1"]["value"] <= hard["pass@k"]["2"]["value"] <= hard["pass@k"]["4"]["value"]
    assert len(hard["runs"]) == 4 and hard["majority@k"].keys() == {"2", "4"}
    assert one["mean"]["benchmarks"] == 2
    rows = pq.read_table(folder / "items.parquet").to_pylist()
    assert len(rows) == 80
    solved = sum(row["correct"] for row in rows if row["benchmark"] == "hard")
    assert solved / 160 == pytest.approx(hard["pass@1"]["value"])
    assert found["config"]["protocols"]["often"]["attempts"] == 4
    told = result.summary()
    assert f"{folder}/report.html" in told and "easy: 40 items, 2 attempt(s) each" in told


def test_a_question_of_two_benchmarks_is_drawn_once(done):
    store, _ = done
    attempts = logged(store)
    # 20 questions twice, the 40 of the other benchmark (20 of them shared) four times
    assert len(attempts) == len(set(attempts)) == 20 * 2 + 40 * 4


def test_the_same_command_draws_nothing_and_says_the_same(done, exams, monkeypatch):
    store, first = done
    before = logged(store)

    def refuse(*_):
        raise AssertionError("an engine was started")

    monkeypatch.setattr(attempts_module, "_sample", refuse)
    again = run(exams, store)
    assert logged(store) == before
    assert again.results["runs"][0]["attempts"]["new"] == 0
    for key in ("scores", "mean", "identity"):
        assert again.results["runs"][0][key] == first.results["runs"][0][key]


def test_another_gold_answer_is_judged_again_not_drawn_again(done, exams, tmp_path, monkeypatch):
    store, first = done
    before = logged(store)
    items = pq.read_table(store / "evaluations/test/items.parquet").to_pylist()
    solved = next(row for row in items if row["benchmark"] == "easy" and row["correct"])
    rows = sums(range(40), 1)
    rows[solved["item"] - 1]["answer"] = "1000"
    monkeypatch.setattr(attempts_module, "_sample", None)
    changed = exams | {"easy": write(tmp_path / "easy.jsonl", rows)}
    found = run(changed, store, "only=[easy]").results
    assert set(logged(store)) == set(before)
    assert "easy: its items have changed since the last run" in " ".join(found["notes"])
    old = first.results["runs"][0]["scores"]["easy"]["verdicts"]["correct"]
    assert found["runs"][0]["scores"]["easy"]["verdicts"]["correct"] == old - solved["correct"]
    run(exams, store)  # as the other tests expect it


def test_more_attempts_reuse_those_that_there_are(done, exams, local_ray):
    store, _ = done
    before = set(logged(store))
    run(exams, store, "protocols.twice.attempts=3", "name=thrice")
    after = logged(store)
    assert before < set(after) and len(set(after)) == 20 * 3 + 40 * 4


def test_models_are_compared_item_by_item(done, exams):
    store, _ = done
    from dataclasses import replace

    better = replace(ENGINE, seed=9, script={"alpha": 5.0, "beta": 0.5, "tokens": 40})
    answers = {row["question"]: row["answer"] for row in sums(range(60), 1)}
    with Served(better, answers) as server:
        found = run(exams, store, f"against=['{server.url}']", "name=two").results
    assert [one["benchmark"] for one in found["comparisons"]] == ["easy", "hard"]
    worse = found["comparisons"][1]
    a, b = (run_["scores"]["hard"]["pass@1"]["value"] for run_ in found["runs"])
    assert worse["difference"] == pytest.approx(a - b)
    assert worse["low"] <= worse["difference"] <= worse["high"] < 0
    assert worse["p"] <= worse["p_adjusted"] < 0.05 and not worse["inside_noise"]
    assert 0 < worse["same_verdicts"] < 1
    assert worse["lost"] > worse["gained"] and worse["lost_items"][0]["a"].endswith("/4")
    page = Page((store / "evaluations/two/report.html").read_text())
    assert_harmless(page)
    assert "Differences on the same items" in page.text


def test_contamination_is_found_and_told(done, exams, tmp_path):
    store, _ = done
    rows = [sums([3], 1)[0]["question"], "How many legs do 7 spiders have?"]
    chats = [{"messages": example_messages(question, "...")} for question in rows]
    data = write(tmp_path / "examples.jsonl", chats)
    found = run(exams, store, f"training_data={data}", "name=dirty").results
    matched = found["contamination"]["benchmarks"]["easy"]
    assert matched["items"] == [4] and matched["matches"][0]["row"] == "examples.jsonl:1"
    assert found["contamination"]["examples"] == 2
    assert found["contamination"]["benchmarks"]["hard"]["items"] == []
    scores = found["runs"][0]["scores"]
    assert scores["easy"]["clean"]["items"] == 39 and "clean" not in scores["hard"]
    assert any("1 items match examples" in note for note in found["notes"])


def test_training_data_that_is_gone(done, exams, tmp_path):
    store, _ = done
    with pytest.raises(ValueError, match="data: "):
        run(exams, store, f"training_data={tmp_path}/gone.jsonl", "name=gone")
    (tmp_path / "README.md").write_text(f"```yaml\ndata: {tmp_path}/gone.jsonl\n```\n")
    found = run(exams, store, f"model={tmp_path}", "name=gone").results
    assert found["contamination"] is None
    assert "no contamination check: the model's card names" in " ".join(found["notes"])


def test_training_data_is_found_in_the_models_card(tmp_path):
    assert training_data("given", str(tmp_path)) == "given"
    assert training_data("", str(tmp_path)) == training_data("", "owner/name") == ""
    (tmp_path / "README.md").write_text("# m\n\n```yaml\nname: m\ndata: store/runs/m\n```\n")
    assert training_data("", str(tmp_path)) == "store/runs/m"


def test_the_plan_tells_what_will_be_asked(exams, tmp_path):
    config = configs.load(EvaluateConfig, arguments(exams, tmp_path, "against=['http://a/v1#b']"))
    told = outline(config, "cpu")
    assert "easy: 40 items" in told and "4 attempt(s) each" in told
    assert "240 per model" in told and "b at http://a/v1" in told
    config.benchmarks[0].source.path = "nowhere.jsonl"
    assert "easy: 2 attempt(s) each" in outline(config, "cpu")


def test_stages_of_a_mixture(exams):
    columns = {"question": "question", "answer": "answer"}
    easy, hard = (
        read_items(
            BenchmarkConfig(name=name, source=SourceConfig(path=exams[name], **columns)), "", 0
        )
        for name in ("easy", "hard")
    )
    config = configs.load(EvaluateConfig, arguments(exams, "store"))
    sampling = config.protocols["twice"].sampling
    made = stages([
        ModelAttempts(
            benchmark=items, protocol_name=name, fingerprint=fingerprint,
            protocol=ProtocolConfig(attempts=attempts, sampling=sampling),
        )
        for items, name, attempts, fingerprint in (
            (easy, "twice", 2, "f"), (hard, "often", 4, "f"), (hard, "other", 1, "g")
        )
    ])  # fmt: skip
    assert [(s.fingerprint, s.rule.budget, len(s.only)) for s in made] == [
        ("f", 2, 20), ("f", 4, 40), ("g", 1, 40)
    ]  # fmt: skip
    assert len({stage.name for stage in made}) == 3


HOSTILE = "`</script><script>alert(1)</script><img src=x onerror=alert(1)> $\\frac{1}{2}$ \ud800\0"


def test_hostile_text_stays_text(tmp_path):
    from limo_ray.report.evaluation import render_evaluation

    path = write(
        tmp_path / "exam.jsonl", [{"q": HOSTILE[:-2] + str(n), "a": "1"} for n in range(3)]
    )
    items = read_items(BenchmarkConfig(name="exam", source=SourceConfig(path=path, question="q",
                 answer="a")), "", 0)  # fmt: skip
    attempts = [
        [Attempt(problem_id=p.id, index=0, completion=f"<think>{HOSTILE}</think>{HOSTILE}",
                 finish_reason="stop", prompt_tokens=1, completion_tokens=9,
                 verdict=Verdict.WRONG, extracted=HOSTILE, judge="0" * 16)]
        for p in items.problems
    ]  # fmt: skip
    assert set(ATTEMPT.names) == set(Attempt.__dataclass_fields__)
    scores = results.scores(attempts, items.problems, [], [], 100)
    label = f"<b>{HOSTILE}</b>"
    facts = {"label": label, "model": label, "identity": "x", "system": HOSTILE,
             "engine": {"dtype": label}, "scores": {"exam": scores | {"fingerprint": "f"}},
             "mean": None, "attempts": {"new": 3, "reused": 0, "seconds": 1.0}}  # fmt: skip
    whole = {
        "name": label, "runs": [facts], "benchmarks": [items.facts() | {
            "protocol": "p", "attempts": 1, "sampling": {"temperature": 0, "top_p": 1,
            "max_tokens": 9}}],
        "comparisons": [], "contamination": None, "verifier": "1", "machine": {}, "commit": None,
        "versions": {"limo_ray": "0"}, "command": HOSTILE, "ended": "2026", "seconds": 1.0,
        "config": {"a": HOSTILE}, "notes": [HOSTILE],
    }  # fmt: skip
    shown = [(label, "exam", n, p, a[0]) for n, p, a in
             zip(items.numbers, items.problems, attempts, strict=True)]  # fmt: skip
    text = render_evaluation(whole, shown)
    text.encode("utf-8")
    page = Page(text)
    assert_harmless(page)
    assert "http://" not in text.replace("http://www.w3.org", "")
    for row in unpacked(text):
        assert_harmless(Page(row["head"]))
        assert_harmless(Page(row["body"]))
    outside_code = re.sub(r"`[^`]*`", "", markdown(whole))
    assert "<img" not in outside_code and "<script" not in outside_code


@pytest.mark.process
def test_jobs_file_takes_a_preset_and_a_dry_run():
    done = subprocess.run(
        [sys.executable, "jobs/evaluate.py", "conf/evaluate/laptop.yaml", "endpoint=http://x/v1",
         "model=mine", "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "model       mine at http://x/v1" in done.stdout and "held_out: 103 items" in done.stdout


def test_kill_9_of_everything_costs_nothing_that_was_logged(local_ray, exams, tmp_path):
    slow = ("engine.script={tokens: 60, unparsed: 0.1, seconds_per_token: 0.01}",)
    (tmp_path / "config.yaml").write_text("")
    job = subprocess.Popen(
        [sys.executable, "jobs/evaluate.py", str(tmp_path / "config.yaml"),
         *arguments(exams, tmp_path, *slow)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
    )  # fmt: skip
    deadline = time.time() + 120
    while len(list(tmp_path.glob("attempts/*/*.parquet"))) < 3:
        assert time.time() < deadline and job.poll() is None, job.communicate()[0]
        time.sleep(0.02)
    family = [psutil.Process(job.pid), *psutil.Process(job.pid).children(recursive=True)]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    job.communicate()
    processes.end(family)
    kept = logged(tmp_path)
    assert 0 < len(kept) < 20 * 2 + 40 * 4
    found = run(exams, tmp_path, *slow).results
    after = logged(tmp_path)
    assert len(after) == len(set(after)) == 20 * 2 + 40 * 4 and set(kept) <= set(after)
    assert found["runs"][0]["attempts"]["reused"] == len(kept)
