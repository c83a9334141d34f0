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
import hmac
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


def parse(text: str, source: str) -> list[ApiKey]:
    """The keys in a text of the format above.

    Raises:
        ValueError: names `source` and the entry's number, never its text.
    """
    keys: list[ApiKey] = []
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
        if any(key.digest == digest for key in keys):
            raise ValueError(f"{source}: entry {number} has the key of an earlier one")
        rpm = None if match["rpm"] is None else int(match["rpm"])
        keys.append(ApiKey(match["name"] or f"key-{digest.hex()[:8]}", digest, rpm))
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
        self._from_env = parse(text.replace(",", "\n"), f"${env}")
        if text.strip() and not self._from_env:
            raise ValueError(f"keys_env: ${env} holds no key")
        self.keys = self._from_env
        self.required = self.file is not None or bool(self._from_env)
        if self.file is not None:
            try:
                self._version = self._file_version()
                from_file = self._read()
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"keys_file: {file}: {type(error).__name__}") from None
            if not from_file:
                raise ValueError(f"keys_file: {file} holds no key")
            self.keys = from_file + self._from_env
        self._checked = clock()

    def find(self, authorization: str | None) -> ApiKey | None:
        """The key in an `Authorization: Bearer` header, or None.

        Every known hash is compared, each in constant time: the time depends neither on the
        position in the list nor on a common beginning of two keys.
        """
        if not self.required:
            return ANONYMOUS
        self._refresh()
        scheme, _, secret = (authorization or "").partition(" ")
        digest = hashlib.sha256(secret.strip().encode("utf-8", "surrogateescape")).digest()
        found = None
        for key in self.keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found if scheme.lower() == "bearer" else None

    def _refresh(self) -> None:
        now = self.clock()
        if self.file is None or now - self._checked < self.interval_s:
            return
        self._checked = now
        try:
            version = self._file_version()
            if version == self._version:
                return
            self.keys = self._read() + self._from_env
        except (OSError, ValueError) as error:
            # a UnicodeDecodeError quotes bytes of the file
            reason = str(error) if type(error) is ValueError else type(error).__name__
            log.error("keys_file: %s: %s; the keys stay as they were", self.file, reason)
            return
        self._version = version
        log.warning("keys_file: read again, %d keys", len(self.keys))

    def _file_version(self) -> tuple[int, int, int]:
        assert self.file is not None
        stat = self.file.stat()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self) -> list[ApiKey]:
        assert self.file is not None
        return parse(self.file.read_text(encoding="utf-8"), str(self.file))
