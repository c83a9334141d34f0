"""API keys, known by the hash of a secret, from a file and an environment variable.

A keys file has one key per line; a changed file is read again while the server runs:

    # the nightly evaluation, and a laptop
    evaluation  9f0c3a...              rpm=600
    laptop:     sha256:5e884898da2804...
    9f3b77...

A line is `[name] secret [rpm=N]`, with blanks or a colon after the name; `#` begins a comment. A
secret of the form `sha256:<64 hex digits>` is the hash itself (`sha256sum` of the key without a
newline), so that the file need not hold the key. Without a name the key is called by the first
digits of its hash. rpm replaces gate.rpm for that name; two keys may share a name (a change of
keys), and then share its limit. In an environment variable entries are separated by commas or
newlines.
"""

import hashlib
import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

MIN_SECRET = 16  # characters: only the length of a secret slows down guessing
LINE = re.compile(
    r"(?:(?P<name>[A-Za-z0-9._-]{1,64})(?:\s*:\s*|\s+))?"
    r"(?P<secret>sha256:[0-9a-fA-F]{64}|[!-9;-~]+)"
    r"(?:\s+rpm=(?P<rpm>\d{1,12}))?"
)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One holder of a secret. The secret itself is not kept."""

    name: str
    digest: bytes  # SHA-256 of the secret
    rpm: int | None = None


ANONYMOUS = ApiKey("anonymous", b"")  # of every request, where no keys are configured


def parse(text: str, source: str) -> dict[bytes, ApiKey]:
    """The keys in a text of the format above, by their digests.

    Raises:
        ValueError: names `source` and the entry's number, never its text.
    """
    keys: dict[bytes, ApiKey] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        if not line:
            continue
        if re.search(r"\stpm=\d+", line):
            raise ValueError(
                f"{source}: entry {number}: tpm is not offered (docs/guides/clusters.md)"
            )
        match = LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{source}: entry {number} is not `[name] secret [rpm=N]`")
        secret = match["secret"]
        if secret.startswith("sha256:"):
            digest = bytes.fromhex(secret.removeprefix("sha256:"))
        elif len(secret) < MIN_SECRET:
            raise ValueError(f"{source}: the key of entry {number} is shorter than {MIN_SECRET}")
        else:
            digest = hashlib.sha256(secret.encode()).digest()
        if digest in keys:
            raise ValueError(f"{source}: entry {number} has the key of an earlier one")
        rpm = None if match["rpm"] is None else int(match["rpm"])
        keys[digest] = ApiKey(match["name"] or f"key-{digest.hex()[:8]}", digest, rpm)
    return keys


class ApiKeys:
    """The keys of a file and of an environment variable; reads a changed file again.

    Once a file or a variable is configured and set, a key is always required: an emptied file
    closes the endpoint. A changed file that cannot be read or parsed leaves the keys as they were,
    with an error in the log: a typing mistake locks nobody out.
    """

    def __init__(
        self,
        file: str,
        env: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        interval_s: float = 1.0,
    ) -> None:
        """
        Args:
            file: path of a keys file, or "".
            env: name of an environment variable, or "".
            clock: seconds.
            interval_s: seconds between two looks at the file's date.

        Raises:
            ValueError: the file or the variable cannot be read, or holds no key.
        """
        self.file = Path(file) if file else None
        self.clock = clock
        self.interval_s = interval_s
        text = os.environ.get(env, "") if env else ""
        self._from_env = self.keys = parse(text.replace(",", "\n"), f"${env}")
        if text.strip() and not self.keys:
            raise ValueError(f"keys_env: ${env} holds no key")
        self._version: tuple[int, int, int] | None = None
        self._checked = clock()
        if self.file and not self._read(self.file):
            raise ValueError(f"keys_file: {file} holds no key")
        self.required = bool(self.file or self.keys)

    def find(self, authorization: str | None) -> ApiKey | None:
        """The key in an `Authorization: Bearer` header, or None.

        It is looked up by its hash, whose bytes nobody can choose: the time says nothing of a key.
        """
        if not self.required:
            return ANONYMOUS
        now = self.clock()
        if self.file and now - self._checked >= self.interval_s:
            self._checked = now
            try:
                self._read(self.file)
            except ValueError as error:
                log.error("%s; the keys stay as they were", error)
        scheme, _, secret = (authorization or "").partition(" ")
        digest = hashlib.sha256(secret.strip().encode("utf-8", "surrogateescape")).digest()
        return self.keys.get(digest) if scheme.lower() == "bearer" else None

    def _read(self, file: Path) -> int:
        """Reads the file if it has changed; how many keys it holds, 0 if it has not changed."""
        try:
            stat = file.stat()
            version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if version == self._version:
                return 0
            keys = parse(file.read_text(encoding="utf-8"), f"keys_file: {file}")
        except (OSError, UnicodeDecodeError) as error:  # the latter quotes bytes of the file
            raise ValueError(f"keys_file: {file}: {type(error).__name__}") from None
        if self._version:
            log.warning("keys_file: read again, %d keys", len(keys))
        self._version = version
        self.keys = keys | self._from_env
        return len(keys)
