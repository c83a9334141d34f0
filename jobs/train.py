"""Train: from examples to a model folder that vLLM and transformers load.

python jobs/train.py conf/train/laptop.yaml data=store/runs/laptop [key.path=value ...] [--dry-run]
ray job submit --working-dir . -- python jobs/train.py conf/train/limo.yaml store=s3://...
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from limo_ray.cli import job
from limo_ray.train.config import TrainConfig
from limo_ray.train.sft import outline, train

if __name__ == "__main__":
    sys.exit(job.main("train", TrainConfig, train, outline, sys.argv[1:], worker_logs=False))
