"""Evaluate: how good is a model, how sure is that, and is it better than another?

python jobs/evaluate.py conf/evaluate/laptop.yaml model=store/models/laptop [--dry-run]
python jobs/evaluate.py conf/evaluate/limo.yaml endpoint=http://host:8000/v1 [key.path=value ...]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from limo_ray.cli.commands import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
