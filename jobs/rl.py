"""Reinforcement learning from verified rollouts: a model and problems become a better model.

python jobs/rl.py conf/rl/laptop.yaml [more.yaml ...] [key.path=value ...] [--dry-run]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from limo_ray.cli.commands import main

if __name__ == "__main__":
    sys.exit(main(["rl", *sys.argv[1:]]))
