"""A job with the faults of `tests.chaos.faults` in every worker. Run by the harness:

python -m tests.chaos.driver curate|train|evaluate PRESET [key=value ...]
"""

import logging
import os
import sys
from pathlib import Path

import ray

from limo_ray.cli import job
from limo_ray.cli.ray_cluster import guard_local_ray
from limo_ray.sampling import ray_data_settings


def main(name: str, argv: list[str]) -> int:
    if name == "curate":
        from limo_ray.curate.config import CurateConfig as Config
        from limo_ray.curate.outline import outline
        from limo_ray.curate.pipeline import curate as run
    elif name == "train":
        from limo_ray.train.config import TrainConfig as Config
        from limo_ray.train.sft import outline
        from limo_ray.train.sft import train as run
    else:
        from limo_ray.evaluate.config import EvaluateConfig as Config
        from limo_ray.evaluate.outline import outline
        from limo_ray.evaluate.runner import evaluate as run
    address = os.environ.get("RAY_ADDRESS", "")
    if not address:
        guard_local_ray()
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])  # workers import tests.chaos
    ray.init(
        address=address or "local",
        include_dashboard=None if address else False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={
            "worker_process_setup_hook": "tests.chaos.faults.install",
            "env_vars": {k: value for k, value in os.environ.items() if k.startswith("CHAOS_")},
        },
    )
    ray_data_settings.configure()
    return job.main(name, Config, run, outline, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
