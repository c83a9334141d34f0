"""The promising order: what it prefers, that it is fixed, what it saves and says of that."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from bench import promising_order as replay
from limo_ray.core import config
from limo_ray.curate import promising_pool
from limo_ray.curate.config import CurateConfig, DifficultyConfig
from limo_ray.curate.pipeline import curate
from limo_ray.curate.promising import PromisingOrder, chances, cost, design, fair_sample, fit

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "conf/curate/published_sample.parquet"
PRESET = str(ROOT / "conf/curate/published_sample.yaml")


def test_the_fit_finds_the_weights_of_a_logistic_model() -> None:
    rng = np.random.default_rng(0)
    features = np.stack([np.ones(20_000), rng.normal(size=20_000), rng.integers(0, 2, 20_000)], 1)
    truth = np.array([-2.0, 0.8, 1.5])
    kept = rng.random(20_000) < chances(features, truth)
    assert fit(features, kept) == pytest.approx(truth, abs=0.1)
    separable = np.stack([np.ones(40), np.repeat([0.0, 1.0], 20)], 1)
    assert np.isfinite(fit(separable, separable[:, 1] > 0)).all()


def test_features_are_groups_length_and_rates_that_may_be_missing() -> None:
    rates = np.array([0.5, np.nan, 1.0])
    found = design([np.array([0, 0, 1]), np.zeros(3, int)], np.array([10, 10, 10]), [rates])
    assert found.T[:4].tolist() == [[1, 1, 1], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert found.T[4:].tolist() == [[1, 0, 1], [0, 0, 0.5], [0, 0, 0.25]]


def decide(order: PromisingOrder, kept: np.ndarray, chunks: int, lag: int) -> list[np.ndarray]:
    """Chunks of an order whose decisions come so many chunks late."""
    found: list[np.ndarray] = []
    for number in range(chunks):
        for rows in found[len(found) - lag : len(found) - lag + 1] if number >= lag else []:
            order.add(rows, kept[rows])
        found.append(order.chunk(number))
    return found


def test_an_order_depends_on_decisions_and_not_on_when_they_come() -> None:
    rng = np.random.default_rng(1)
    features = design([rng.integers(0, 3, 1_000)], rng.integers(10, 90, 1_000), [])
    kept = rng.random(1_000) < np.where(features[:, 1] > 0, 0.5, 0.02)
    late = PromisingOrder(features, 50, 0.2)
    assert late.chunk(1) is not None and late.chunk(2) is None
    early = PromisingOrder(features, 50, 0.2)
    early.add(np.arange(1_000), kept)  # all at once
    ready = [early.chunk(number) for number in range(20)]
    found = decide(late, kept, 20, 1)
    assert all((one == other).all() for one, other in zip(found, ready, strict=True))
    assert sorted(np.concatenate(found)) == list(range(1_000)) and not len(late.chunk(20))
    assert kept[np.concatenate(found[2:6])].mean() > 1.5 * kept.mean()


def test_the_random_share_is_the_beginning_of_the_seeded_order() -> None:
    rng = np.random.default_rng(2)
    features = design([rng.integers(0, 2, 2_000)], np.full(2_000, 9), [])
    kept = rng.random(2_000) < np.where(features[:, 1] > 0, 0.6, 0.01)
    found = decide(PromisingOrder(features, 100, 0.1), kept, 8, 1)
    sampled = np.zeros(2_000, bool)
    sampled[np.concatenate(found)] = True
    fair = fair_sample(sampled)
    assert 200 + 6 * 10 <= fair < 400  # two random chunks, a tenth of six others, and luck
    assert abs(features[:fair, 1].mean() - features[:, 1].mean()) < 0.1
    assert features[np.concatenate(found[3:]), 1].mean() >= 0.9  # all but the random ones


def test_the_cost_of_a_fair_sample_has_an_interval_unless_nothing_was_kept() -> None:
    tokens, kept = np.array([10.0, 20, 30, 40]), np.array([True, False, True, False])
    found = cost(tokens, kept, 100)
    assert (found.per_keeper, found.kept, found.tokens) == (50, 2, 100)
    assert found.low < 50 < found.high
    everything = cost(tokens, kept, 4)
    assert everything.low == everything.high == 50
    assert cost(tokens, np.zeros(4, bool), 100).per_keeper is None


def test_half_the_tokens_are_saved_and_the_interval_covers_the_truth() -> None:
    features, kept, tokens = replay.make_pool()
    truth = tokens.sum() / kept.sum()
    runs = [replay.simulate(features, kept, tokens, seed) for seed in range(12)]
    assert all(truth / promising > 2 for promising, *_ in runs)
    assert sum(low <= truth <= high for _, _, low, high in runs) >= 10


@pytest.mark.parametrize(
    ("values", "error"),
    [({"stop_after_kept": 0}, "target"), ({"per": "source"}, "per=all"),
     ({"overlap": False}, "overlap=true"), ({"random_share": 0}, "random_share"),
     ({"order": "best"}, "order")],
)  # fmt: skip
def test_what_cannot_be_ordered_is_refused(values: dict, error: str) -> None:
    good = {"order": "promising", "stop_after_kept": 9}
    DifficultyConfig(**good).check()
    with pytest.raises(ValueError, match=error):
        DifficultyConfig(**good | values).check()


def arguments(store: Path, *more: str) -> list[str]:
    return [
        PRESET, f"sources=[{{path: {SAMPLE}, mapping: openr1_math}}]", f"store={store}",
        f"engines.sample.published.path={SAMPLE}", "engines.sample.max_num_seqs=8",
        "difficulty.order=promising", "difficulty.stop_after_kept=40", "sampler.flush_s=0.2",
        *more,
    ]  # fmt: skip


def logged(store: Path, ids: set[str]) -> Counter:
    """Rows of the attempt logs at these problems. Past the target's last keeper there may be more:
    how far samplers get before they hear that they may stop is a matter of time."""
    found: Counter = Counter()
    for folder in (store / "attempts").iterdir():
        rows = pq.read_table(folder, columns=["problem_id", "index"]).to_pylist()
        found.update((folder.name, *row.values()) for row in rows if row["problem_id"] in ids)
    return found


def test_a_curation_in_promising_order(
    local_ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promising_pool, "LEAST_CHUNK", 16)
    curate(config.load(CurateConfig, arguments(tmp_path)), "cpu")
    run = tmp_path / "runs/published_sample"
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["counts"]["kept"] == 40 == manifest["promising"]["kept"]
    assert manifest["counts"]["not_sampled"] > 0
    ledger = pq.read_table(run / "ledger").to_pylist()
    assert len(ledger) == manifest["counts"]["input"]
    sampled = {r["problem_id"] for r in ledger if r["stage"] in ("strong", "chains", "selection")}
    found = manifest["promising"]
    assert len(sampled) == found["sampled"] == manifest["counts"]["sampled"]
    pool = pq.read_table(run / "pool").to_pylist()
    live = sorted((r["order"], r["id"]) for r in pool if r["reason"] is None)
    fair = next(place for place, (_, id_) in enumerate(live) if id_ not in sampled)
    assert 0 < found["random"]["problems"] == fair
    assert manifest["extrapolation"]["rows"][0]["sampled"] == fair
    assert sum(found["kept_sets"]["promising"]["sources"].values()) == pytest.approx(1)
    assert "Promising order" in (run / "report.html").read_text()
    before = logged(tmp_path, sampled)
    # the same set again, from the log, whose further attempts make pass rates a little finer
    curate(config.load(CurateConfig, arguments(tmp_path, "selection.k=20")), "cpu")
    again = json.loads((run / "manifest.json").read_text())
    for one in [*found["kept_sets"].values(), *again["promising"]["kept_sets"].values()]:
        del one["pass_rate"]
    assert again["promising"] == found
    assert sum(before.values()) > 0 and logged(tmp_path, sampled) == before
