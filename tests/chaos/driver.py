"""jobs/curate.py with the faults of `tests.chaos.faults` in every worker. Run by the harness:

python -m tests.chaos.driver PRESET [key=value ...]
"""

import logging
import os
import sys

import ray

from limo_ray.cli import job
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.outline import outline
from limo_ray.curate.pipeline import curate
from limo_ray.sampling import ray_data_settings

if __name__ == "__main__":
    passed = {name: value for name, value in os.environ.items() if name.startswith("CHAOS_")}
    ray.init(
        address=os.environ["RAY_ADDRESS"],
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={
            "worker_process_setup_hook": "tests.chaos.faults.install",
            "env_vars": passed,
        },
    )
    ray_data_settings.configure()
    sys.exit(job.main("curate", CurateConfig, curate, outline, sys.argv[1:]))
