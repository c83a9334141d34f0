"""Was the model trained on what it is asked? The training examples, looked for in the benchmarks.

    found = check(benchmarks, training_data(given, model))

The matcher is the one that keeps benchmarks out of the pool (limo_ray.problems.decontaminate).
"""

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from limo_ray.evaluate.items import BenchmarkItems
from limo_ray.problems import chats, near_duplicates
from limo_ray.problems.benchmarks import Item
from limo_ray.problems.chats import RowsConfig
from limo_ray.problems.decontaminate import DecontaminateConfig, Index
from limo_ray.problems.near_duplicates import NearConfig
from limo_ray.problems.text_features import Features
from limo_ray.storage import model_files

log = logging.getLogger(__name__)

BATCH = 20_000  # questions looked up at once
SHOWN = 50  # matches in results, per benchmark
RECIPE = re.compile(r"^```yaml\n(.*?)^```", re.M | re.S)


def training_data(given: str, model: str) -> str:
    """What the model was trained on: as given, or as the card in its folder says; "" if unknown."""
    if given:
        return given
    folder = Path(model).expanduser()
    card = folder / "README.md"
    if not model_files.is_local(model) or not card.is_file():
        return ""
    recipe = RECIPE.search(card.read_text(errors="replace"))
    if recipe is None:
        return ""
    try:
        values = yaml.safe_load(recipe[1])
    except yaml.YAMLError:
        return ""
    data = values.get("data") if isinstance(values, dict) else None
    return data if isinstance(data, str) else ""


def check(benchmarks: list[BenchmarkItems], data: str) -> dict[str, Any]:
    """Which training examples match which items.

    Returns:
        data, examples (rows read), and by benchmark: items that an example matches, and the
        matches (item, row, how, shared text). ValueError when the data cannot be had.
    """
    items = [
        Item(benchmark=known.name, number=number, question=problem.question, domain=problem.domain)
        for known in benchmarks
        for number, problem in zip(known.numbers, known.problems, strict=True)
    ]
    index = Index(items, DecontaminateConfig(), NearConfig())
    found: dict[str, list[dict[str, Any]]] = {known.name: [] for known in benchmarks}
    rows = unreadable = 0
    waiting: list[tuple[str, str]] = []

    def match_waiting() -> None:
        questions = [question for _, question in waiting]
        seen = Features.of(questions)
        made = np.zeros(len(questions), bool)
        keys = near_duplicates.band_keys(seen, made, index.near)
        matches = index.find(questions, seen, made, keys)
        for (row, question), match in zip(waiting, matches, strict=True):
            if match is not None:
                found[match.benchmark].append(
                    {"row": row, "item": match.item, "how": match.match,
                     "shared": match.shared, "question": question[:200]}
                )  # fmt: skip
        waiting.clear()

    for chat in chats.chats(data, RowsConfig()):
        rows += 1
        if isinstance(chat, chats.Bad):
            unreadable += 1
            continue
        row = f"{Path(chat.file).name}:{chat.row}"
        waiting += [(row, turn["content"]) for turn in chat.messages if turn["role"] == "user"]
        if len(waiting) >= BATCH:
            match_waiting()
    if waiting:
        match_waiting()
    return {
        "data": data, "examples": rows, "unreadable": unreadable,
        "benchmarks": {
            name: {"items": sorted({m["item"] for m in matches}), "matches": matches[:SHOWN]}
            for name, matches in found.items()
        },
    }  # fmt: skip
