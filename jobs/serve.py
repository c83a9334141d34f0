"""Serve: an OpenAI-compatible endpoint for a model folder or hub id, on Ray Serve and vLLM.

python jobs/serve.py conf/serve/laptop.yaml model=store/models/laptop [key=value ...] [--dry-run]
serve run limo_ray.serve.app:build_app preset=conf/serve/laptop.yaml model=store/models/laptop
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from limo_ray.cli.commands import main

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
