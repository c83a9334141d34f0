"""API keys: the file's format, changes of the file, and what never shows a key."""

import hashlib
import logging
import os
from pathlib import Path

import pytest

from limo_ray.serve.keys import ANONYMOUS, Keys, parse
from tests.serve.gates import KEY

OTHER = "sk-beta-fedcba9876543210"


def write(path: Path, text: str, at: int) -> None:
    path.write_text(text)
    os.utime(path, ns=(at, at))  # a date of its own, however fast the test is


def test_the_format() -> None:
    digest = hashlib.sha256(OTHER.encode()).hexdigest()
    keys = parse(
        f"# people\n\nalice {KEY} rpm=6 tpm=0  # a laptop\nbob: sha256:{digest}\n{'x' * 16}=\n", "f"
    )
    assert [(key.name, key.rpm, key.tpm) for key in keys[:2]] == [
        ("alice", 6, 0),
        ("bob", None, None),
    ]
    assert keys[1].digest == hashlib.sha256(OTHER.encode()).digest()
    assert keys[2].name == f"key-{keys[2].digest.hex()[:8]}"


@pytest.mark.parametrize(
    "line",
    ["tiny", "alice tiny", "a b c d", f"{KEY} rps=4", f"{KEY} rpm=-1", f"ä {KEY}", "sha256:12"],
)
def test_a_wrong_line_is_refused_without_showing_it(line: str) -> None:
    with pytest.raises(ValueError, match=r"entry 2") as caught:
        parse(f"fine {OTHER}\n{line}", "keys.txt")
    assert line not in str(caught.value)
    assert KEY not in str(caught.value)


def test_the_same_key_twice_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="earlier"):
        parse(f"a {KEY}\nb {KEY}", "f")


def test_who(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"alice {KEY}\nbob {OTHER}")
    keys = Keys(str(file), "")
    assert [keys.who(f"Bearer {k}").name for k in (KEY, OTHER)] == ["alice", "bob"]
    assert keys.who(f"bearer  {KEY}").name == "alice"
    for header in (
        None,
        "",
        KEY,
        f"Basic {KEY}",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        "Bearer \xff",
    ):
        assert keys.who(header) is None
    assert not any(keys.who(f"Bearer sk-guess-{number:016}") for number in range(1000))


def test_none_configured_is_open_but_an_emptied_file_is_shut(tmp_path: Path) -> None:
    assert Keys("", "").who(None) is ANONYMOUS
    assert not Keys("", "NO_SUCH_VARIABLE").required
    now = 0.0
    file = tmp_path / "keys"
    write(file, KEY, 1)
    keys = Keys(str(file), "", clock=lambda: now)
    assert keys.who(f"Bearer {KEY}")
    write(file, "# all revoked\n", 2)
    now = 2.0
    assert keys.refresh()
    assert keys.required
    assert keys.who(f"Bearer {KEY}") is None
    assert keys.who(None) is None


def test_a_key_is_revoked_and_added_without_a_restart(tmp_path: Path) -> None:
    now = 0.0
    file = tmp_path / "keys"
    write(file, f"alice {KEY}", 1)
    keys = Keys(str(file), "", clock=lambda: now, every=1.0)
    write(file, f"bob {OTHER}", 2)
    assert not keys.refresh(), "looked at more than once a second"
    now = 1.5
    assert keys.refresh()
    assert keys.who(f"Bearer {KEY}") is None
    assert keys.who(f"Bearer {OTHER}").name == "bob"


@pytest.mark.parametrize("damage", ["gone", "garbage", "binary"])
def test_a_damaged_file_leaves_the_keys(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    file = tmp_path / "keys"
    write(file, f"alice {KEY}", 1)
    keys = Keys(str(file), "", clock=lambda: now)
    if damage == "gone":
        file.unlink()
    elif damage == "garbage":
        write(file, f"alice {OTHER} what is this", 2)
    else:
        file.write_bytes(b"\xff\xfe" + OTHER.encode())
    now = 2.0
    with caplog.at_level(logging.ERROR):
        assert not keys.refresh()
    assert keys.who(f"Bearer {KEY}").name == "alice"
    assert "stay" in caplog.text
    assert OTHER not in caplog.text
    now = 4.0
    write(file, f"bob {OTHER}", 3)
    assert keys.refresh()
    assert keys.who(f"Bearer {OTHER}").name == "bob"


def test_a_start_without_readable_keys_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keys_file"):
        Keys(str(tmp_path / "none"), "")
    (tmp_path / "empty").write_text("# nobody yet")
    with pytest.raises(ValueError, match="no key"):
        Keys(str(tmp_path / "empty"), "")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="keys_file"):
        Keys(str(tmp_path / "binary"), "")


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEYS", f"alice {KEY} rpm=3, {OTHER}")
    keys = Keys("", "SOME_KEYS")
    assert keys.who(f"Bearer {KEY}").rpm == 3
    assert keys.who(f"Bearer {OTHER}").name.startswith("key-")
    monkeypatch.setenv("SOME_KEYS", " , ,")
    with pytest.raises(ValueError, match="keys_env"):
        Keys("", "SOME_KEYS")
