"""A curation of 50 problems of your own, on two cores without a GPU (about 3 minutes).

python examples/own_problems.py [--scripted]      with --scripted an engine that makes answers up
"""

import csv
import sys
from pathlib import Path

from limo_ray import curate, load_config, open_run


def write_problems(file: Path) -> None:
    """50 sums with their answers; yours come from wherever you have them."""
    with file.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["problem", "result"])
        for n in range(50):
            table.writerow([f"What is {n + 3} + {2 * n + 1} - {n % 7}?", 3 * n + 4 - n % 7])


if __name__ == "__main__":
    write_problems(Path("problems.csv"))
    config = load_config(
        "curate",
        "laptop",
        name="own",
        sources=[{"path": "problems.csv", "question": "problem", "answer": "result"}],
        difficulty={"stop_after_kept": 0},  # all of them
        selection={"k": 10},
        **{"decontaminate.files": []},
    )
    if "--scripted" in sys.argv:
        config.engines["smollm2"].kind = "scripted"
    result = curate(config)
    print(result.summary())
    run = open_run(result.folder)
    print(run.problems()[["question", "answer", "correct", "finished"]])
    print(run.ledger().groupby(["stage", "reason"], dropna=False).size())
