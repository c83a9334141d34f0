"""Study: is less more? A grid of selections, sizes and models, trained, evaluated, compared.

python jobs/study.py conf/study/laptop.yaml [more.yaml ...] [key.path=value ...] [--dry-run]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from limo_ray.cli.commands import main

if __name__ == "__main__":
    sys.exit(main(["study", *sys.argv[1:]]))
