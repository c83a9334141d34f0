"""Plan: what a curation will take on a cluster, before it is started.

python jobs/plan.py conf/curate/limo.yaml pool_rows=10_000_000 [key.path=value ...] [--dry-run]
python jobs/plan.py conf/curate/laptop.yaml conf/plan/laptop.yaml pilot=store/runs/pilot
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from limo_ray.cli.commands import main

if __name__ == "__main__":
    sys.exit(main(["plan", *sys.argv[1:]]))
