"""Train: from examples to a model folder that vLLM and transformers load.

python jobs/train.py conf/train/laptop.yaml data=store/runs/laptop [key.path=value ...] [--dry-run]
ray job submit --working-dir . -- python jobs/train.py conf/train/limo.yaml store=s3://...
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from limo_ray.cli.commands import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
