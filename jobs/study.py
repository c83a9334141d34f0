"""Study: is less more? A grid of selections, sizes and models, trained, evaluated, compared.

python jobs/study.py conf/study/laptop.yaml [more.yaml ...] [key.path=value ...] [--dry-run]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from limo_ray.cli import job
from limo_ray.study.config import StudyConfig
from limo_ray.study.job import study
from limo_ray.study.outline import outline

if __name__ == "__main__":
    sys.exit(job.main("study", StudyConfig, study, outline, sys.argv[1:], worker_logs=False))
