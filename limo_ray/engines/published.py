"""Attempts that others published, as an engine: it gives back what a data set has, makes nothing.

`limo_ray.curate.published` collects them in a folder of Parquet parts. Attempt number `index` at a
problem is the one in that place of the data set, so that a log of them means the same in every run.
"""

import asyncio
import threading
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from limo_ray.attempts.index import hex_to_uint64
from limo_ray.engines.base import Completion, EngineConfig, NoAttempt, Request
from limo_ray.storage.store import Store

PUBLISHED = pa.schema(
    [
        ("problem_id", pa.string()),
        ("completion", pa.string()),
        ("label", pa.bool_()),  # the data set's own; null where it has none
        ("file", pa.string()),
        ("line", pa.int64()),
    ]
)
GROUP_ROWS = 32  # of a part; one attempt is read with its group, some 30 kB each
GROUPS_HELD = 64  # the attempts at one problem are neighbours
# Data sets give texts. A tokenizer would need the model: this is an estimate for LaTeX and English.
CHARACTERS_PER_TOKEN = 3


def tokens(text: str) -> int:
    """Estimated tokens of a text, by its characters."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def id_keys(ids: pa.Array) -> np.ndarray:
    """Problem ids (32 hex digits) as an (n,) array of 16 bytes each, which sorts and compares."""
    return hex_to_uint64(ids, 2).astype(">u8").view("S16").ravel()


class PublishedIndex:
    """Where the attempts at each problem are; 25 bytes for each attempt.

    Arrays are sorted by problem; the attempts at one keep the order of parts and rows.
    """

    def __init__(self, folder: Store) -> None:
        self.parts = folder.files("")
        keys, labels, part, row = [], [], [], []
        for number, name in enumerate(self.parts):
            table = folder.read_table(name, ["problem_id", "label"])
            label = table["label"].cast(pa.int8()).fill_null(-1)
            keys.append(id_keys(table["problem_id"].combine_chunks()))
            labels.append(label.to_numpy().astype(np.int8))
            part.append(np.full(len(table), number, np.int32))
            row.append(np.arange(len(table), dtype=np.int32))
        unsorted = np.concatenate(keys) if keys else np.zeros(0, "S16")
        order = np.argsort(unsorted, kind="stable")
        self.keys = unsorted[order]  # (n,) S16
        self.labels = _sorted(labels, order, np.int8)  # (n,): 1 correct, 0 wrong, -1 none
        self.part = _sorted(part, order, np.int32)  # (n,), an index into `parts`
        self.row = _sorted(row, order, np.int32)  # (n,)

    def __len__(self) -> int:
        return len(self.keys)

    def problems(self) -> int:
        """Problems that have attempts."""
        return len(np.unique(self.keys))

    def find(self, keys: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """The places of attempts in the arrays: (m,) int, -1 for one that is not there.

        Args:
            keys: (m,) of problems, as `id_keys` makes them.
            numbers: (m,) of the attempts, from 0.
        """
        places = np.searchsorted(self.keys, keys) + numbers
        inside = places < len(self)
        there = np.zeros(len(places), bool)
        there[inside] = self.keys[places[inside]] == keys[inside]
        return np.where(there, places, -1)


def _sorted(parts: list[np.ndarray], order: np.ndarray, kind: type) -> np.ndarray:
    return np.concatenate(parts)[order] if parts else np.zeros(0, kind)


class PublishedEngine:
    """Gives back attempts of a folder. Raises NoAttempt past a problem's last one."""

    def __init__(self, config: EngineConfig) -> None:
        self.folder = Store(config.published.folder)
        self._open: dict[int, pq.ParquetFile] = {}
        self._lock = threading.Lock()  # an open file is read by one thread at a time
        self._group = lru_cache(maxsize=GROUPS_HELD)(self._read_group)

    async def start(self) -> None:
        self.index = await asyncio.to_thread(PublishedIndex, self.folder)

    def render(self, messages: list[dict[str, str]]) -> list[int]:
        """As many made-up tokens as the chat is estimated to have."""
        return list(range(sum(tokens(turn["content"]) for turn in messages)))

    async def generate(self, request: Request) -> Completion:
        key = id_keys(pa.array([request.problem.id]))
        [place] = self.index.find(key, np.array([request.index]))
        if place < 0:
            raise NoAttempt(
                f"{self.folder.shown} has no attempt {request.index} at {request.problem.id}"
            )
        part, row = int(self.index.part[place]), int(self.index.row[place])
        text = await asyncio.to_thread(self._text, part, row)
        return Completion(
            text=text,
            finish_reason="stop",
            prompt_tokens=len(request.prompt),
            completion_tokens=tokens(text),
        )

    def _text(self, part: int, row: int) -> str:
        text: str = self._group(part, row // GROUP_ROWS)[row % GROUP_ROWS].as_py()
        return text

    def _read_group(self, part: int, group: int) -> pa.ChunkedArray:
        with self._lock:
            if part not in self._open:
                path = self.folder.path(self.index.parts[part])
                self._open[part] = pq.ParquetFile(
                    path, filesystem=self.folder.filesystem, page_checksum_verification=True
                )
            table = self._open[part].read_row_group(group, ["completion"], use_threads=False)
        return table["completion"]

    async def cut_off(self) -> None:
        """Does nothing: what is open ends at once."""

    def shutdown(self) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()
