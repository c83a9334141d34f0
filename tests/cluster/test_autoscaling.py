"""Ray's real autoscaler, its nodes raylets on this machine: from none to some to none."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.heads import Head, head
from tests.cluster.test_submit import curation, logged, submit

pytestmark = pytest.mark.ray

# Only samplers and trainers have engines to give, so that labels decide between the two.
NODES = {
    "pool": {"resources": {"CPU": 4}, "labels": {"role": "pool"}, "max_workers": 2},
    "sampler": {
        "resources": {"CPU": 1, "engine": 1}, "labels": {"role": "sampler"}, "max_workers": 2,
    },
    "trainer": {
        "resources": {"CPU": 1, "engine": 1}, "labels": {"role": "trainer"}, "max_workers": 2,
    },
    "gpu": {"resources": {"CPU": 1, "GPU": 8}, "labels": {"role": "gpu"}, "max_workers": 1},
}  # fmt: skip


class Watch:
    """Nodes over time: the most at once of each role, and how many are left."""

    def __init__(self, cluster: Head) -> None:
        self.cluster = cluster
        self.most: dict[str, int] = {}
        self.now: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._stop.wait(0.5):
            try:
                self.now = list(self.cluster.nodes().values())
            except OSError:  # a busy dashboard: looked at again
                continue
            for role in self.now:
                self.most[role] = max(self.most.get(role, 0), self.now.count(role))

    def wait_until_empty(self, timeout_s: float) -> None:
        deadline = time.time() + timeout_s
        while self.now and time.time() < deadline:
            time.sleep(0.5)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Head]:
    with head(node_types=NODES) as found:
        yield found


def test_a_curation_grows_the_cluster_and_leaves_it_empty(cluster: Head, tmp_path: Path) -> None:
    job = [
        *curation(tmp_path, problems=200), "engines.smollm2.resources={engine: 1}",
        'engines.smollm2.labels={role: "!trainer"}', "engines.smollm2.min_replicas=1",
        "engines.smollm2.max_replicas=2",
    ]  # fmt: skip
    with Watch(cluster) as watch:
        done = submit(cluster, *job)
        assert done.returncode == 0, done.stdout[-3000:]
        watch.wait_until_empty(timeout_s=120)
        assert watch.now == [], "nodes that nobody uses stayed"
        assert watch.most.get("sampler") == 2, "one for each engine, of which the second is growth"
        assert watch.most.get("pool"), "for reading and filters"
        assert watch.most.keys() == {"pool", "sampler"}, "nobody asked for the others"
    attempts = logged(tmp_path / "store")
    assert len(attempts) == len(set(attempts)) > 200


TRAINING = """
from limo_ray.cli.ray_cluster import start_ray
from limo_ray.core import config
from limo_ray.storage.store import Store
from limo_ray.train import sft
from limo_ray.train.config import TrainConfig

start_ray(log_to_driver=False)
argv = ["conf/train/laptop.yaml", "workers.labels={role: trainer}"]
loaded = config.load(TrainConfig, argv)
# what is asked of the cluster matters here, not the training
sft.trainer(lambda sent: None, {}, loaded, "cpu", Store("FOLDER"), "asks").fit()
"""


def test_a_training_grows_the_cluster_and_leaves_it_empty(cluster: Head, tmp_path: Path) -> None:
    script = TRAINING.replace("FOLDER", str(tmp_path))
    with Watch(cluster) as watch:
        done = cluster.run("python", "-c", script, RAY_ADDRESS=cluster.gcs)
        assert done.returncode == 0, done.stderr[-3000:]
        watch.wait_until_empty(timeout_s=120)
        assert watch.now == [], "nodes that nobody uses stayed"
        assert watch.most == {"trainer": 2}, "a node of one CPU for each of two workers"
