"""Serve: an OpenAI-compatible endpoint for a model folder or hub id, on Ray Serve and vLLM.

python jobs/serve.py conf/serve/laptop.yaml model=store/models/laptop [key=value ...] [--dry-run]
serve run limo_ray.serve.app:build_app preset=conf/serve/laptop.yaml model=store/models/laptop
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from limo_ray.cli import job
from limo_ray.serve.config import ServeConfig
from limo_ray.serve.job import outline, serve

if __name__ == "__main__":
    # somebody waits for the workers: they have the priority of any other program
    options = {"worker_logs": False, "niceness": 0}
    sys.exit(job.main("serve", ServeConfig, serve, outline, sys.argv[1:], **options))
