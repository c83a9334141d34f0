"""Ray metrics of a job's samplers, as a node offers them, and the dashboard that shows them."""

import json
import re
import time
import urllib.request
from itertools import combinations
from pathlib import Path

import pytest

from limo_ray.sampling.config import SamplerConfig
from limo_ray.sampling.coordinator import Coordinator
from limo_ray.sampling.ray_metrics import COUNTERS, GAUGES, counts, levels
from limo_ray.sampling.ray_stage import sample
from limo_ray.storage.store import Store
from tests.sampling.test_sampler import ENGINE, pool, stage

GRAFANA = Path(__file__).parents[2] / "cluster/grafana.json"


def report(**more: object) -> dict:
    totals = {
        "needed": 3, "reused": 2, "verdicts": {"correct": 2, "wrong": 1}, "priors": {},
        "tokens": {"prompt": 10, "completion": 40}, "decisions": {"keep": 1},
    }  # fmt: skip
    return {
        "engine": True, "open": 3, "slots": 17, "lag": 0.5, "checked": 3, "check_seconds": 0.25,
        "at": 100.0, "stages": {"weak": totals},
    } | more  # fmt: skip


def test_a_report_becomes_counters() -> None:
    found = counts(report())
    assert found["limo_ray_attempts_total", (("stage", "weak"), ("verdict", "correct"))] == 2
    assert found["limo_ray_tokens_total", (("stage", "weak"), ("kind", "completion"))] == 40
    assert found["limo_ray_decided_total", (("stage", "weak"), ("decision", "keep"))] == 1
    assert found["limo_ray_reused_total", (("stage", "weak"),)] == 2
    assert found["limo_ray_verify_seconds_total", ()] == 0.25
    for name, tags in found:
        assert tuple(tag for tag, _ in tags) == COUNTERS[name][1]
    assert {name for name, _ in found} == COUNTERS.keys()


def test_levels_are_those_of_samplers_that_still_report() -> None:
    workers = {
        "a": report(lag=2.5), "idle": report(engine=False, open=0, lag=0.0),
        "gone": report(at=10.0, lag=90.0),
    }  # fmt: skip
    assert levels(workers, 101.0) == {
        "limo_ray_engines": 1, "limo_ray_slots": 17, "limo_ray_slots_open": 3,
        "limo_ray_flush_lag_seconds": 2.5,
    }  # fmt: skip
    assert levels({}, 0.0).keys() == GAUGES.keys()


LINE = re.compile(r"^ray_(limo_ray_\w+)\{(.*)\} (\S+)$", re.M)


def scraped(ray: object) -> dict[str, dict[str, float]]:
    """Our metrics on the node's own endpoint: by name, the values by the labels that are ours."""
    (node,) = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[attr-defined]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    found: dict[str, dict[str, float]] = {}
    for name, labels, value in LINE.findall(text):
        tags = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        own = " ".join(tags[tag] for tag in COUNTERS.get(name, ("", ()))[1])
        values = found.setdefault(name, {})
        values[own] = values.get(own, 0.0) + float(value)
    return found


def test_a_node_offers_what_a_run_did(local_ray, tmp_path: Path) -> None:
    before = scraped(local_ray)
    rows = pool(12)
    coordinator = local_ray.remote(Coordinator).options(num_cpus=0).remote()
    data = sample(
        local_ray.data.from_arrow(rows), ENGINE, [stage()], Store(str(tmp_path)), system="",
        coordinator=coordinator, config=SamplerConfig(flush_s=0.2, speculative_share=0.0),
    )  # fmt: skip
    assert len(data.take_all()) == 12
    (stats,) = local_ray.get(coordinator.snapshot.remote()).values()
    deadline = time.time() + 120
    while True:  # nodes collect every ten seconds
        found = scraped(local_ray)
        grown = {
            own: value - before.get("limo_ray_decided_total", {}).get(own, 0)
            for own, value in found.get("limo_ray_decided_total", {}).items()
        }
        if sum(grown.values()) >= 12 or time.time() > deadline:
            break
        time.sleep(0.5)
    local_ray.kill(coordinator)
    assert sum(grown.values()) == 12
    assert found.keys() >= GAUGES.keys()
    assert {name for name in COUNTERS if name != "limo_ray_reused_total"} <= found.keys()
    verdicts = stats["stages"]["strong"]["verdicts"]
    for verdict, count in verdicts.items():
        was = before.get("limo_ray_attempts_total", {}).get(f"strong {verdict}", 0)
        assert found["limo_ray_attempts_total"][f"strong {verdict}"] - was == count


@pytest.fixture(scope="module")
def dashboard() -> dict:
    return json.loads(GRAFANA.read_text())


def expressions(dashboard: dict) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_the_dashboard_shows_every_metric_and_no_other(dashboard: dict) -> None:
    known = {f"ray_{name}" for name in (*COUNTERS, *GAUGES)}
    asked = {name for e in expressions(dashboard) for name in re.findall(r"\bray_\w+", e)}
    assert asked == known


def test_its_expressions_name_labels_that_are_there(dashboard: dict) -> None:
    for expression in expressions(dashboard):
        assert expression.count("(") == expression.count(")")
        (name, *_) = re.findall(r"\bray_(\w+)", expression)
        tags = set(COUNTERS.get(name, ("", ()))[1])
        grouped = {tag.strip() for by in re.findall(r"by \(([^)]*)\)", expression)
                   for tag in by.split(",")}  # fmt: skip
        assert grouped | set(re.findall(r"[{,](\w+)=", expression)) <= tags
        rated = re.findall(r"rate\(ray_(\w+)", expression)
        assert all(name in COUNTERS for name in rated), "only counters have a rate"


def test_its_panels_are_whole_and_do_not_overlap(dashboard: dict) -> None:
    assert dashboard["schemaVersion"] >= 36 and dashboard["uid"] and dashboard["title"]
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["type"] == "timeseries" and panel["title"] and panel["description"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs) >= 1
        grid = panel["gridPos"]
        assert grid["x"] >= 0 and grid["x"] + grid["w"] <= 24
        for target in panel["targets"]:
            named = re.findall(r"{{(\w+)}}", target["legendFormat"])
            assert all(tag in target["expr"] for tag in named)
    assert "datasource" in variables
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above
