"""Curate: from a problem pool to a published set of examples.

python jobs/curate.py conf/curate/laptop.yaml [more.yaml ...] [key.path=value ...] [--dry-run]
ray job submit --working-dir . -- python jobs/curate.py conf/curate/limo.yaml store=s3://...
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from limo_ray.cli.commands import main

if __name__ == "__main__":
    sys.exit(main(["curate", *sys.argv[1:]]))
