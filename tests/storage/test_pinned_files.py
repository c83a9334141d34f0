"""Files of public repositories: fetched once, checked, kept in the store."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

from limo_ray.problems import benchmarks
from limo_ray.problems.benchmarks import BENCHMARKS
from limo_ray.storage.pinned_files import PinnedFile, fetch, head
from limo_ray.storage.store import Store
from tests.hub_server import serve

CONTENT = b'{"problem": "1 + 1?", "answer": "2"}\n'
FILE = PinnedFile(
    repository="owner/name", commit="a" * 40, path="data/test.jsonl",
    sha256=hashlib.sha256(CONTENT).hexdigest(), licence="MIT",
)  # fmt: skip
PLACE = f"owner/name/{'a' * 40}/data/test.jsonl"
NOWHERE = "http://127.0.0.1:9"


def test_a_file_is_fetched_once_and_kept(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with serve({}, {PLACE: CONTENT}) as server:
        uri = fetch(FILE, store, server.url + "/")
        assert Path(uri).read_bytes() == CONTENT
        assert fetch(FILE, store, server.url) == uri
        assert server.asked == [f"/{PLACE}"]
    assert fetch(FILE, store, NOWHERE) == uri, "no network is needed any more"
    assert FILE.url() == f"https://raw.githubusercontent.com/{PLACE}"


def test_another_content_is_refused_and_not_kept(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with (
        serve({}, {PLACE: CONTENT + b"x"}) as server,
        pytest.raises(ValueError, match="another file than the pinned one"),
    ):
        fetch(FILE, store, server.url)
    assert not FILE.is_in(store)
    store.write_bytes(FILE.name, b"cut o")  # what another program left there
    with serve({}, {PLACE: CONTENT}) as server:
        fetch(FILE, store, server.url)
    assert FILE.is_in(store)


def test_what_cannot_be_had_says_why(tmp_path: Path) -> None:
    with serve({}, {PLACE: CONTENT}) as server:
        assert head(FILE.url(server.url)) == ""
        server.files.clear()
        assert head(FILE.url(server.url)) == "404 Not Found"
        with pytest.raises(ValueError, match=f"cannot fetch {server.url}/owner/.*: 404 Not Found"):
            fetch(FILE, Store(str(tmp_path)), server.url)
    assert "refused" in head(FILE.url(server.url))


def test_a_benchmark_of_the_papers_repository_is_fetched(tmp_path: Path, monkeypatch) -> None:
    rows = [{"problem": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(30)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    known = BENCHMARKS["chmath"]
    file = dataclasses.replace(known.file, sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(BENCHMARKS, "chmath", dataclasses.replace(known, file=file))
    store = Store(str(tmp_path))
    place = f"GAIR-NLP/LIMO/{file.commit}/eval/data/cn_math_2024/test.jsonl"
    with serve({}, {place: content}) as server:
        items = benchmarks.load("chmath", "", store, server.url)
    assert [item.question for item in items] == [row["problem"] for row in rows]
    (tmp_path / "own").mkdir()
    (tmp_path / "own/chmath.jsonl").write_bytes(content.replace(b"What", b"How much"))
    own = benchmarks.load("chmath", str(tmp_path / "own"), store)
    assert own[0].question == "How much is 0 + 0?", "a local copy goes before"


def test_a_benchmark_that_cannot_be_fetched_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        benchmarks.load("gaokao", "", Store(str(tmp_path)), NOWHERE)
    told = str(caught.value)
    assert told.startswith(f"benchmark gaokao: cannot fetch {NOWHERE}/GAIR-NLP/LIMO/")
    assert "set mirror, or put gaokao.jsonl" in told
