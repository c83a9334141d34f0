"""A file with columns of its own: templates, nested fields, answers inside solutions, conditions.

python examples/custom_source.py
"""

import json
from pathlib import Path

from limo_ray.problems.sources import SourceConfig, open_sources, rows, work_items

ROWS = [
    {
        "task": {"text": "A train goes 60 km in 45 minutes.", "ask": "What is its speed in km/h?"},
        "solution": "60 km in 3/4 h, so 80 km/h.\n#### 80",
        "meta": {"year": 2023, "level": "easy"},
    },
    {
        "task": {"text": "Let x + 3 = 11.", "ask": "What is x?"},
        "solution": "Subtract 3.\n#### 8",
        "meta": {"year": 2025, "level": "easy"},
    },
    {"task": {"text": "No answer here.", "ask": "Why?"}, "solution": "", "meta": {"year": 2022}},
]

if __name__ == "__main__":
    Path("tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    source = SourceConfig(
        path="tasks.jsonl",
        question="{task.text} {task.ask}",  # a template of paths
        solution="solution",
        answer_from="hashes",  # what follows ####
        where=["meta.year < 2024"],  # rows that do not meet it are not of the source
        metadata=["meta.level"],
    )
    # what the pool reads; in a preset the same keys stand below `sources`
    sources = open_sources([source])
    for item in work_items(sources):
        for row in rows(sources, item):
            print({name: row[name] for name in ("question", "answer", "metadata", "reason")})
