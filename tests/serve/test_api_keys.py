"""API keys: the file's format, changes of the file, and what never shows a key."""

import hashlib
import logging
import os
from pathlib import Path

import pytest

from limo_ray.serve.api_keys import ANONYMOUS, ApiKeys, parse
from tests.serve.scripted import KEY, OTHER


def write(path: Path, text: str, at: int) -> None:
    path.write_text(text)
    os.utime(path, ns=(at, at))  # a date of its own, however fast the test is


def name(keys: ApiKeys, secret: str) -> str | None:
    found = keys.find(f"Bearer {secret}")
    return found and found.name


def test_the_format() -> None:
    digest = hashlib.sha256(OTHER.encode()).hexdigest()
    keys = [
        *parse(
            f"# people\n\nalice {KEY} rpm=6  # a laptop\nbob: sha256:{digest}\n{'x' * 16}=\n", "f"
        ).values()
    ]
    assert [(key.name, key.rpm) for key in keys[:2]] == [("alice", 6), ("bob", None)]
    assert keys[1].digest == hashlib.sha256(OTHER.encode()).digest()
    assert keys[2].name == f"key-{keys[2].digest.hex()[:8]}"


@pytest.mark.parametrize(
    "line",
    ["tiny", "alice tiny", "a b c d", f"{KEY} rps=4", f"{KEY} rpm=-1", f"ä {KEY}", "sha256:12",
     f"alice {KEY} rpm=3 tpm=5"],
)  # fmt: skip
def test_a_wrong_line_is_refused_without_showing_it(line: str) -> None:
    with pytest.raises(ValueError, match=r"entry 2") as caught:
        parse(f"fine {OTHER}\n{line}", "keys.txt")
    assert line not in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_limit_that_is_gone_and_the_same_key_twice_are_mistakes() -> None:
    with pytest.raises(ValueError, match=r"entry 1: tpm is not offered \(docs/guides/"):
        parse(f"alice {KEY} tpm=5", "f")
    with pytest.raises(ValueError, match="earlier"):
        parse(f"a {KEY}\nb {KEY}", "f")


def test_a_key_is_found_by_its_secret(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"alice {KEY}\nbob {OTHER}")
    keys = ApiKeys(str(file), "")
    assert [name(keys, secret) for secret in (KEY, OTHER)] == ["alice", "bob"]
    assert keys.find(f"bearer  {KEY}").name == "alice"
    for header in (
        None, "", KEY, f"Basic {KEY}", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", "Bearer \xff",
    ):  # fmt: skip
        assert keys.find(header) is None
    assert not any(name(keys, f"sk-guess-{number:016}") for number in range(1000))


def test_none_configured_is_open_but_an_emptied_file_is_closed(tmp_path: Path) -> None:
    assert ApiKeys("", "").find(None) is ANONYMOUS
    assert not ApiKeys("", "NO_SUCH_VARIABLE").required
    now = 0.0
    file = tmp_path / "keys"
    write(file, KEY, 1)
    keys = ApiKeys(str(file), "", clock=lambda: now)
    assert name(keys, KEY)
    write(file, "# all revoked\n", 2)
    now = 2.0
    assert name(keys, KEY) is None
    assert keys.required
    assert keys.find(None) is None


def test_a_key_is_revoked_and_added_without_a_restart(tmp_path: Path) -> None:
    now = 0.0
    file = tmp_path / "keys"
    write(file, f"alice {KEY}", 1)
    keys = ApiKeys(str(file), "", clock=lambda: now)
    write(file, f"bob {OTHER}", 2)
    assert name(keys, KEY) == "alice", "looked at more than once a second"
    now = 1.5
    assert [name(keys, secret) for secret in (KEY, OTHER)] == [None, "bob"]


@pytest.mark.parametrize("damage", ["gone", "garbage", "binary"])
def test_a_damaged_file_leaves_the_keys(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    file = tmp_path / "keys"
    write(file, f"alice {KEY}", 1)
    keys = ApiKeys(str(file), "", clock=lambda: now)
    if damage == "gone":
        file.unlink()
    elif damage == "garbage":
        write(file, f"alice {OTHER} what is this", 2)
    else:
        file.write_bytes(b"\xff\xfe" + OTHER.encode())
    now = 2.0
    with caplog.at_level(logging.ERROR):
        assert name(keys, KEY) == "alice"
    assert "stay" in caplog.text
    assert OTHER not in caplog.text
    now = 4.0
    write(file, f"bob {OTHER}", 3)
    assert name(keys, OTHER) == "bob"


@pytest.mark.parametrize("content", [None, b"# nobody yet", b"\xff\xfe"])
def test_a_start_without_readable_keys_is_a_mistake(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "keys"
    if content:
        file.write_bytes(content)
    with pytest.raises(ValueError, match="keys_file"):
        ApiKeys(str(file), "")


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEYS", f"alice {KEY} rpm=3, {OTHER}")
    keys = ApiKeys("", "SOME_KEYS")
    assert keys.find(f"Bearer {KEY}").rpm == 3
    assert name(keys, OTHER).startswith("key-")
    monkeypatch.setenv("SOME_KEYS", " , ,")
    with pytest.raises(ValueError, match="keys_env"):
        ApiKeys("", "SOME_KEYS")
