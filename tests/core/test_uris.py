"""Stores on real S3 and GCS servers: whole files, patience, and credentials that stay hidden."""

import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from limo_ray.attempts.log import AttemptLog, LogWriter
from limo_ray.core import uris
from limo_ray.core.records import Verdict, problem_id
from limo_ray.core.uris import open_uri, redact, redacted
from limo_ray.problems import discovery
from limo_ray.storage.store import Store
from tests.attempts.test_log import JUDGE, attempt, write
from tests.object_store import BUCKET, KEY, S3, SECRET, serve_gcs, serve_s3

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with serve_s3() as server:
        yield server


@pytest.fixture(scope="module")
def gcs() -> Iterator[str]:
    with serve_gcs() as uri:
        yield uri


@pytest.fixture(params=["local", "s3", "gs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind."""
    if request.param == "local":
        return Store(str(tmp_path))
    if request.param == "s3":
        return Store(request.getfixturevalue("s3").uri(tmp_path.name))
    return Store(request.getfixturevalue("gcs").format(tmp_path.name))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    uris._object_store.cache_clear()
    monkeypatch.setattr(uris, "S3_ATTEMPTS", 1)
    yield
    uris._object_store.cache_clear()


def test_files_are_written_read_listed_and_deleted(store: Store) -> None:
    store.write_text("a/b c/x.json", '"ü"')
    store.write_text("a/b c/x.json", '"two"')
    store.within("a/b c").write_bytes("y.bin", b"1" * 20_000_000)
    assert store.read_json("a/b c/x.json") == "two"
    assert store.read_text("a/none") is None
    assert store.files("a/b c", "") == ["x.json", "y.bin"]
    assert store.files("a/none") == []
    assert store.exists("a") and store.exists("a/b c/y.bin") and not store.exists("a/c")
    store.delete("a/b c/x.json")
    store.delete("a/b c/x.json")
    assert store.files("a/b c", "") == ["y.bin"]
    store.delete("a")
    store.delete("a")
    assert not store.exists("a/b c/y.bin") and store.files("a/b c", "") == []


def test_large_files_are_copied_in_and_out(store: Store, tmp_path: Path) -> None:
    content = os.urandom(1 << 20) * 40
    (tmp_path / "in").write_bytes(content)
    store.copy_in(tmp_path / "in", "models/m/weights")
    store.copy_out("models/m/weights", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_fails_in_the_middle_is_not_published(store: Store, error: type) -> None:
    store.write_text("x", "before")
    for name in ("x", "new"):
        with pytest.raises(error), store._whole(name) as stream:
            stream.write(b"half" * 5_000_000)
            raise error
    assert store.read_text("x") == "before"
    assert store.files("", "") == ["x"]


def test_an_attempt_log_lives_there(
    store: Store,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(uploads))
    log = AttemptLog(store, "f" * 16)
    assert len(log.read_index()) == 0
    writer = LogWriter(log, merge=4)
    for index in range(9):
        writer.append(attempt("p", index))
        writer.flush()
    for index in range(20):
        write(log, attempt("q", index, Verdict.CORRECT))
    store.write_bytes(f"{log.folder}/part-0-bad.parquet", b"PAR1 but not really PAR1")
    with caplog.at_level(logging.WARNING):
        known = log.read_index()
    assert "part-0-bad.parquet is not readable" in caplog.text
    assert store.files(f"{log.folder}/broken") == ["part-0-bad.parquet"]
    assert len(known) == 29 and log.compact() == 22
    assert len(store.files(log.folder)) == 1
    index = log.read_index()
    assert sorted(index.known(problem_id("p"), JUDGE).verdicts) == list(range(9))
    assert len(log.attempts([problem_id("q")])) == 20
    assert not list(uploads.iterdir())


def test_a_small_part_is_one_request(s3: S3) -> None:
    store = Store(s3.uri("one"))
    store.write_text("first", "opens the client")
    s3.control()
    store.write_text("second", "text")
    assert s3.control()["requests"] == [f"PUT /{BUCKET}/one/second"]


def test_a_writer_killed_in_an_upload_publishes_nothing(s3: S3, tmp_path: Path) -> None:
    store = Store(s3.uri("killed"))
    store.write_text("weights", "before")
    (tmp_path / "weights").write_bytes(b"1" * 35_000_000)
    code = (
        "import sys; from pathlib import Path; from limo_ray.storage.store import Store\n"
        "Store(sys.argv[1]).copy_in(Path(sys.argv[2]), 'weights')"
    )
    command = [sys.executable, "-c", code, store.uri, str(tmp_path / "weights")]
    with subprocess.Popen([*command], cwd=ROOT) as process:
        s3.control(kill=process.pid, at="partNumber=3")
        assert process.wait(60) == -signal.SIGKILL
    assert store.read_text("weights") == "before"
    assert store.files("", "") == ["weights"]


def test_a_folder_is_finished_with_its_last_file(s3: S3, tmp_path: Path, impatient: None) -> None:
    store = Store(s3.uri("models"))
    for version in ("1", "2"):
        folder = tmp_path / version
        folder.mkdir()
        for name in ("config.json", "weights", f"z-only-{version}"):
            (folder / name).write_text(version)
    store.copy_folder_in(tmp_path / "1", "a", last="config.json")
    assert store.files("a", "") == ["config.json", "weights", "z-only-1"]
    s3.control(fails="PUT .*z-only-2")
    with pytest.raises(OSError):
        store.copy_folder_in(tmp_path / "2", "a", last="config.json")
    s3.control()
    assert store.files("a", "") == ["weights"], "half a folder must not look finished"
    store.copy_folder_in(tmp_path / "2", "a", last="config.json")
    assert store.files("a", "") == ["config.json", "weights", "z-only-2"]


def test_a_server_that_fails_now_and_then_is_asked_again(s3: S3) -> None:
    log = AttemptLog(Store(s3.uri("flaky")), "f" * 16)
    s3.control(fail_share=0.15)
    writer = LogWriter(log, merge=3)
    for index in range(6):
        writer.append(attempt("p", index))
        assert writer.flush() == 1
    assert len(log.read_index()) == 6
    log.store.write_bytes("big", b"1" * 15_000_000)
    assert s3.control()["failed"] >= 3
    assert log.store.filesystem.get_file_info(log.store.path("big")).size == 15_000_000


def test_a_server_that_is_away_loses_no_attempt(s3: S3, impatient: None) -> None:
    log = AttemptLog(Store(s3.uri("away")), "f" * 16)
    writer = LogWriter(log)
    writer.append(attempt("p", 0))
    writer.flush()
    s3.control(fails=".")
    writer.append(attempt("p", 1))
    with pytest.raises(OSError):
        writer.flush()
    s3.control(fails=r"^GET .*\.parquet")
    with pytest.raises(OSError):
        log.read_index()
    s3.control()
    assert log.store.files(f"{log.folder}/broken") == [], "a network that is away is no damage"
    assert writer.flush() == 1
    assert len(log.read_index()) == 2


def test_a_key_may_be_written_as_it_is(s3: S3) -> None:
    uri = s3.uri("key")
    plain = uri.replace("%2F", "/").replace("%2B", "+")
    assert plain != uri and SECRET in plain
    Store(plain).write_text("x", "y")
    assert Store(uri).read_text("x") == "y"
    assert Store(plain).shown == f"s3://***@{BUCKET}/key"


def test_the_environment_names_server_and_credentials(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3.address}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    store = Store(f"s3://{BUCKET}/plain")
    store.write_text("x", "y")
    assert Store(s3.uri("plain")).read_text("x") == "y"
    assert store.shown == f"s3://{BUCKET}/plain"


def test_sources_with_odd_names_are_found_and_opened(s3: S3) -> None:
    store = Store(s3.uri("pool"))
    names = ["a b.jsonl", "c%20d.jsonl", "e?f.jsonl", "g#h.jsonl"]
    for name in names:
        store.write_text(name, name)
    for pattern in ("pool", "pool/*.jsonl"):
        files = discovery.on_disk(s3.uri(pattern))
        assert [file.name for file in files] == [f"s3://***@{BUCKET}/pool/{name}" for name in names]
        for file, name in zip(files, names, strict=True):
            filesystem, path = file.open()
            with filesystem.open_input_stream(path) as stream:
                assert stream.read().decode() == name


SHOWN = {
    "s3://KEY:SE%2FCRET@bucket/a@b": "s3://***@bucket/a@b",
    "s3://KEY:SE/CR+ET@bucket": "s3://***@bucket",
    "s3://bucket/a:b@c": "s3://bucket/a:b@c",
    "store=gs://user@bucket/x?y=1 http://host:80/v1": "store=gs://***@bucket/x?y=1 http://host:80/v1",
    "['s3://K:S@one', 's3://K:S@two']": "['s3://***@one', 's3://***@two']",
    "me@example.org": "me@example.org",
    "s3://KEY:PA@SS@bucket/x": "s3://***@bucket/x",
    "s3://KEY:P'A\",SS@bucket/x": "s3://***@bucket/x",
    "https://host/v1?api-key=abc123&x=1": "https://host/v1?api-key=***&x=1",
    "judge.api_key=abc seed=3": "judge.api_key=*** seed=3",
    "x.hf_token=abc max_tokens=3 keys_file=/k": "x.hf_token=*** max_tokens=3 keys_file=/k",
    "tool --api-key abc --seed 3": "tool --api-key *** --seed 3",
    "password: hunter2": "password: ***",
    "client.key_variable=OPENAI_API_KEY": "client.key_variable=OPENAI_API_KEY",
    "AWS_SECRET_ACCESS_KEY=abc/d+e": "AWS_SECRET_ACCESS_KEY=***",
    "Authorization: Bearer abcdefghijk": "Authorization: Bearer ***",
    "{'Authorization': 'Basic Zm9v', 'b': 1}": "{'Authorization': 'Basic ***', 'b': 1}",
    '{"api_key": "zzz", "b": 1}': '{"api_key": "***", "b": 1}',
    "the key sk-abcdefghijklmnop1234 is refused": "the key *** is refused",
    "RAY_AUTH_MODE: token, but there is no token: set it": (
        "RAY_AUTH_MODE: token, but there is no token: set it"
    ),
}


@pytest.mark.parametrize("text", SHOWN)
def test_credentials_are_not_shown(text: str) -> None:
    assert redact(text) == SHOWN[text]
    assert redacted({"a": [text, 1, None]}) == {"a": [SHOWN[text], 1, None]}


def test_values_under_secret_names_and_headers_are_masked_whole() -> None:
    given = {
        "api_key": "x", "password": "y", "hf_token": "z", "token": "",
        "extra_headers": {"X-Team": "blue"}, "max_tokens": 3, "tokens": "5",
        "nested": [{"secret": "s", "key_variable": "OPENAI_API_KEY"}],
    }  # fmt: skip
    assert redacted(given) == {
        "api_key": "***", "password": "***", "hf_token": "***", "token": "",
        "extra_headers": {"X-Team": "***"}, "max_tokens": 3, "tokens": "5",
        "nested": [{"secret": "***", "key_variable": "OPENAI_API_KEY"}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://KEY:SECRET@bucket/x?speed=fast", "Unexpected query parameter in S3 URI: 'speed'"),
        ("gs://bucket/x?speed=fast", "Unexpected query parameter in GCS URI: 'speed'"),
    ],
)
def test_a_wrong_uri_is_named_without_its_credentials(uri: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        open_uri(uri)
    assert message in str(error.value) and "SEC" not in str(error.value)
    assert "SEC" not in repr(Store(uri)) and "SEC" not in Store(uri).shown


def test_files_of_a_wrong_bucket_are_named_in_one_line(s3: S3, impatient: None) -> None:
    uri = s3.uri().replace(f"@{BUCKET}/", "@nowhere/x")
    with pytest.raises(OSError) as error:
        Store(uri).write_text("a", "b")
    assert "nowhere" in str(error.value) and SECRET not in str(error.value)
    assert isinstance(Store(uri).filesystem, pafs.S3FileSystem)
