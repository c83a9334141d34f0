"""Status: how does a run stand? Read from storage alone, while it runs and after it died.

python jobs/status.py <store> [name] [--json]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from limo_ray.cli.commands import main

if __name__ == "__main__":
    sys.exit(main(["status", *sys.argv[1:]]))
