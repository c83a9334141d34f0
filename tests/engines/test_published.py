"""Published attempts: their index, and the engine that gives them back."""

import asyncio
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from limo_ray.core.records import Problem, problem_id
from limo_ray.engines.base import EngineConfig, NoAttempt, Request, SamplingConfig, create, identity
from limo_ray.engines.published import GROUP_ROWS, PUBLISHED, PublishedIndex, id_keys, tokens
from limo_ray.engines.published_config import READY, PublishedConfig
from limo_ray.storage.store import Store

IDS = [problem_id(f"question {number}") for number in range(5)]
LABELS = (True, False, None)


def folder(path: Path) -> Store:
    """Two parts: problems come up several times, in both; more rows than one group has."""
    store = Store(str(path))
    places = [IDS[number % 3] for number in range(2 * GROUP_ROWS + 5)]
    for part, ids in enumerate([places, [IDS[0], IDS[3]], []]):
        rows = [
            {
                "problem_id": id_,
                "completion": f"{part}/{row}",
                "label": (True, False, None)[row % 3],
            }
            for row, id_ in enumerate(ids)
        ]
        tables = [
            pa.Table.from_pylist(rows[begin : begin + GROUP_ROWS], schema=PUBLISHED)
            for begin in range(0, len(rows), GROUP_ROWS)
        ]
        store.write_tables(f"part-{part}.parquet", PUBLISHED, iter(tables), lambda: {})
    return store


def engine(store: Store):
    published = PublishedConfig(path="x", question="q", completions=["c"], folder=store.uri)
    return create(EngineConfig(model="others", kind="published", published=published))


def request(id_: str, index: int) -> Request:
    problem = Problem(id=id_, question="", answer="", source="")
    return Request(problem=problem, index=index, prompt=[1, 2], sampling=SamplingConfig())


def test_an_attempt_is_the_one_in_its_place_of_the_data(tmp_path: Path) -> None:
    async def ask() -> None:
        others = engine(folder(tmp_path))
        await others.start()
        rows = range(0, 2 * GROUP_ROWS + 5, 3)
        expected = [f"0/{row}" for row in rows] + ["1/0"]
        wanted = [others.generate(request(IDS[0], index)) for index in range(len(expected))]
        found = await asyncio.gather(*wanted)
        assert [completion.text for completion in found] == expected
        assert {completion.finish_reason for completion in found} == {"stop"}
        assert found[0].completion_tokens == tokens("0/0") == 1
        assert (await others.generate(request(IDS[3], 0))).text == "1/1"
        for id_, index in ((IDS[0], len(expected)), (IDS[3], 1), (IDS[4], 0)):
            with pytest.raises(NoAttempt, match=f"no attempt {index} at {id_}"):
                await others.generate(request(id_, index))
        others.shutdown()

    asyncio.run(ask())


def test_the_index_finds_labels_of_many_attempts_at_once(tmp_path: Path) -> None:
    index = PublishedIndex(folder(tmp_path))
    assert len(index) == 2 * GROUP_ROWS + 7
    assert index.problems() == 4
    keys = id_keys(pa.array([IDS[0], IDS[2], IDS[3], IDS[4], max(IDS)]))
    places = index.find(keys, np.array([0, 1, 0, 0, 10**6]))
    assert (places >= 0).tolist() == [True, True, True, False, False]
    assert index.labels[places[:3]].tolist() == [1, -1, 0]


def test_an_empty_folder_has_no_attempt(tmp_path: Path) -> None:
    index = PublishedIndex(Store(str(tmp_path)))
    assert index.find(id_keys(pa.array(IDS)), np.zeros(5, int)).tolist() == [-1] * 5


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "published.path: give one of path and hub, got none"),
        ({"path": "a", "hub": "b"}, "published.path: give one of path and hub, got 'a' and 'b'"),
        ({"path": "a"}, "published.question: which column"),
        ({"path": "a", "question": "q"}, "published.completions: which column"),
        ({"hub": "a", "mapping": "openr1"}, "published.mapping: 'openr1' is none of openr1_math"),
        (
            {"hub": "a", "mapping": "deepmath", "correct": ["x"]},
            "published.correct: 1 columns for 3",
        ),
    ],
)
def test_a_data_set_that_is_none_is_named(given: dict, field: str) -> None:
    config = EngineConfig(model="m", kind="published", published=PublishedConfig(**given))
    with pytest.raises(ValueError, match=field):
        config.check()


def test_what_is_given_goes_before_the_ready_columns() -> None:
    config = PublishedConfig(hub="a", mapping="openr1_math", question="prompt")
    columns = config.columns()
    assert columns.question == "prompt"
    assert columns.completions == READY["openr1_math"].completions


def test_published_attempts_serve_no_evaluation() -> None:
    config = EngineConfig(model="m", kind="published")
    with pytest.raises(ValueError, match="in a curation only"):
        identity(config)
