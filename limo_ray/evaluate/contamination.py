"""Was the model trained on what it is asked? The training examples, looked for in the benchmarks.

    found = check(sets, training_data(config, folder), seed)

The matcher is the one that keeps benchmarks out of the pool (limo_ray.problems.decontaminate).
"""

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from limo_ray.evaluate.items import Items
from limo_ray.problems import chats, near_duplicates
from limo_ray.problems.benchmarks import Item
from limo_ray.problems.chats import RowsConfig
from limo_ray.problems.decontaminate import DecontaminateConfig, Index
from limo_ray.problems.near_duplicates import NearConfig
from limo_ray.problems.text_features import Features
from limo_ray.storage import model_files

log = logging.getLogger(__name__)

BATCH = 20_000  # questions looked up at once
SHOWN = 50  # matches told of, per benchmark
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
        told = yaml.safe_load(recipe[1])
    except yaml.YAMLError:
        return ""
    data = told.get("data") if isinstance(told, dict) else None
    return data if isinstance(data, str) else ""


def check(sets: list[Items], data: str) -> dict[str, Any]:
    """Which training examples match which items.

    Returns:
        data, examples (rows read), and by benchmark: items that an example matches, and the
        matches (item, row, how, shared text). ValueError when the data cannot be had.
    """
    items = [
        Item(benchmark=one.name, number=number, question=problem.question, domain=problem.domain)
        for one in sets
        for number, problem in zip(one.numbers, one.problems, strict=True)
    ]
    index = Index(items, DecontaminateConfig(), NearConfig())
    found: dict[str, list[dict[str, Any]]] = {one.name: [] for one in sets}
    rows = unreadable = 0
    waiting: list[tuple[str, str]] = []

    def look() -> None:
        questions = [question for _, question in waiting]
        seen = Features.of(questions)
        made = np.zeros(len(questions), bool)
        keys = near_duplicates.band_keys(seen, made, index.near)
        matches = index.find(questions, seen, made, keys)
        for (place, question), match in zip(waiting, matches, strict=True):
            if match is not None:
                found[match.benchmark].append(
                    {"row": place, "item": match.item, "how": match.match,
                     "shared": match.shared, "question": question[:200]}
                )  # fmt: skip
        waiting.clear()

    for chat in chats.chats(data, RowsConfig()):
        rows += 1
        if isinstance(chat, chats.Bad):
            unreadable += 1
            continue
        place = f"{Path(chat.file).name}:{chat.row}"
        waiting += [(place, turn["content"]) for turn in chat.messages if turn["role"] == "user"]
        if len(waiting) >= BATCH:
            look()
    if waiting:
        look()
    return {
        "data": data, "examples": rows, "unreadable": unreadable,
        "benchmarks": {
            name: {"items": sorted({m["item"] for m in matches}), "matches": matches[:SHOWN]}
            for name, matches in found.items()
        },
    }  # fmt: skip
