"""Bad rows are named, long ones fall under the stated policy, and all of it is counted."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from limo_ray.problems.chats import Bad, Chat, RowsConfig, chats
from limo_ray.storage.store import Store
from limo_ray.train.config import TrainConfig
from limo_ray.train.loop import fit_to
from limo_ray.train.table import TrainingData, batch_layout, prepare, table
from limo_ray.train.tokens import Encoder
from limo_ray.train.worker import TrainingJob
from tests.train import tiny

USER, SAID = {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "It is 2."}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(tiny.tokenizer())


def written(folder: Path, rows: list[Any]) -> str:
    file = folder / "rows.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def read(folder: Path, rows: list[Any], **settings: Any) -> list[Chat | Bad]:
    return list(chats(written(folder, rows), RowsConfig(**settings)))


def made(folder: Path, rows: list[Any], encoder: Encoder, **settings: Any) -> TrainingData:
    config = RowsConfig(**settings)
    return prepare(chats(written(folder, rows), config), encoder, config, 0)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"id": 3}, "messages: missing"),
        ({"messages": []}, "messages: must be a list"),
        ({"messages": [USER, {"role": "assistant"}]}, "messages[1].content: missing"),
        (
            {"messages": [USER, {"role": "assistant", "content": " \n"}]},
            "messages[2].content: empty",
        ),
        ({"messages": [USER, {"role": "assistant", "content": 3}]}, "is int, not text"),
        ({"messages": [SAID, USER]}, "messages[1].role: 'assistant' where 'user' must be"),
        ({"messages": [USER, SAID, SAID]}, "messages[3].role: 'assistant' where 'user' must be"),
        ({"messages": [USER, SAID, USER]}, "the last turn must be the assistant's"),
        ({"messages": [USER, {"role": "tool", "content": "x"}]}, "'tool' where 'assistant'"),
        ("{not json", "line"),
        ("[1]", "is list, not an object"),
    ],
)
def test_a_bad_row_is_named_with_its_field(tmp_path: Path, row: Any, words: str) -> None:
    good = {"messages": [USER, SAID]}
    found = read(tmp_path, [good, row, good])
    assert [type(each) for each in found] == [Chat, Bad, Chat]
    assert f"{tmp_path}/rows.jsonl, row 2: " in str(found[1])
    assert words in str(found[1])


def test_bad_rows_stop_or_are_counted(tmp_path: Path, encoder: Encoder) -> None:
    rows = [{"question": "1+1?", "solution": text} for text in ("2", "", "2")] + [{"question": "x"}]
    with pytest.raises(
        ValueError, match=r"2 of 4 rows .*row 2: solution: empty.*row 4: solution: no"
    ):
        made(tmp_path, rows, encoder)
    data = made(tmp_path, rows, encoder, bad="drop")
    assert (len(data.train), data.counts["bad"], data.read) == (2, 2, 4)


def test_sharegpt_and_parquet_and_our_examples(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]
    (chat,) = read(tmp_path, [{"conversations": turns}], system="")
    assert isinstance(chat, Chat)
    assert chat.messages == [USER, {"role": "assistant", "content": "2"}]
    (wrong,) = read(tmp_path, [{"conversations": [{"from": "cat", "value": "miau"}, turns[1]]}])
    assert "conversations[0].from: 'cat' is none of" in str(wrong)
    table_ = pa.Table.from_pylist([{"messages": [USER, SAID], "tokens": 3}])
    pq.write_table(table_, tmp_path / "examples.parquet")
    for data in (tmp_path, tmp_path / "examples.parquet"):  # a run's folder, and the file
        (chat,) = chats(str(data), RowsConfig(system=""))
        assert isinstance(chat, Chat) and chat.messages == [USER, SAID]


def test_templates_of_columns(tmp_path: Path) -> None:
    row = {"question": "q", "thoughts": ["t", "u"], "attempt": "a"}
    (chat,) = read(tmp_path, [row], solution="{thoughts[0]}\n{attempt}", system="")
    assert isinstance(chat, Chat) and chat.messages[-1]["content"] == "t\na"


@pytest.mark.parametrize("policy", ["drop", "cut", "stop"])
def test_a_long_text_falls_under_the_policy(tmp_path: Path, encoder: Encoder, policy: str) -> None:
    rows = [{"question": "1+1?", "solution": text} for text in ("2", "a b c d " * 25_000)]
    settings: dict[str, Any] = {"max_tokens": 200, "too_long": policy, "system": ""}
    if policy == "stop":
        with pytest.raises(ValueError, match=r"row 2: [\d,]+ tokens, more than rows.max_tokens"):
            made(tmp_path, rows, encoder, **settings)
        return
    data = made(tmp_path, rows, encoder, **settings)
    kept = "too long, cut" if policy == "cut" else "too long, dropped"
    assert data.counts == {kept: 1}
    assert len(data.train) == (2 if policy == "cut" else 1)
    assert max(len(one) for one in data.train) <= 200
    config = TrainConfig(model="m", data="d", rows=RowsConfig(**settings))
    config.batch.examples, config.workers.count = 1, 1
    shown = dict(table(data, batch_layout(config, len(data.train))))
    assert shown[kept] == "1"
    assert shown["rows read"] == "2"


def test_a_question_that_fills_the_room_leaves_nothing_to_learn(
    tmp_path: Path, encoder: Encoder
) -> None:
    rows = [{"question": "why " * 200, "solution": "so"}, {"question": "1+1?", "solution": "2"}]
    data = made(tmp_path, rows, encoder, max_tokens=100, too_long="cut", system="")
    assert data.counts == {"too long, cut": 1, "nothing left to learn": 1}


def test_held_out_is_a_fixed_draw(tmp_path: Path, encoder: Encoder) -> None:
    rows = [{"question": f"{n}?", "solution": f"{n}"} for n in range(20)]
    first = made(tmp_path, rows, encoder, held_out=0.25)
    again = made(tmp_path, rows, encoder, held_out=5)
    assert len(first.held_out) == 5 and len(first.train) == 15
    ids = [[one.ids.tolist() for one in data.held_out] for data in (first, again)]
    assert ids[0] == ids[1]
    with pytest.raises(ValueError, match=r"rows\.held_out: 20"):
        made(tmp_path, rows, encoder, held_out=20)


def test_data_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^data: no file matches"):
        list(chats(str(tmp_path / "no.jsonl"), RowsConfig()))


def test_fewer_workers_than_asked_for_have_the_same_batches(
    tmp_path: Path, encoder: Encoder
) -> None:
    rows = [{"question": f"{n}?", "solution": "yes " * n} for n in range(1, 9)]
    data = made(tmp_path, rows, encoder, max_tokens=500)
    config = TrainConfig(model="m", data="d", rows=RowsConfig(max_tokens=500))
    config.batch.examples, config.workers.count = 8, 4
    job = TrainingJob(
        config=config, device="cpu", store=Store(str(tmp_path)), model="m", template="",
        train=data.train, held_out=[], layout=batch_layout(config, 8), state=None,
    )  # fmt: skip
    chosen = job.layout.schedule.batch_of(0)
    assert len(job.layout.rows(data.train, chosen)) == 4
    fit_to(job, 3)
    laid_out = job.layout.rows(data.train, chosen)
    assert len(laid_out) == job.config.workers.count == 3
    assert sorted(one for rows in laid_out for row in rows for one in row) == list(range(8))
    assert config.workers.count == 4, "what the driver has stays as it is"
