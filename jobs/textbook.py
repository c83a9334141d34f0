"""Textbook: the chosen problems of a run as a page to study from.

python jobs/textbook.py <store>/runs/<name> [--by KEY] [--pdf]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from limo_ray.cli.commands import main

if __name__ == "__main__":
    sys.exit(main(["textbook", *sys.argv[1:]]))
