"""API keys: who may ask, known by the hash of a secret. Revoked by editing the file.

A keys file has one key per line:

    # the nightly evaluation, and a laptop
    evaluation  9f0c3a...              rpm=600 tpm=200000
    laptop:     sha256:5e884898da2804...
    9f3b77...

A line is `[name] secret [rpm=N] [tpm=N]`, with blanks or a colon after the name; `#` begins a
comment. A secret of the form `sha256:<64 hex digits>` is the hash itself (`sha256sum` of the key
without a newline), so that the file need not hold the key. Without a name the key is called by the
first digits of its hash. rpm and tpm replace the gate's limits for that name; two keys may share a
name (a change of keys), and then share its limits. In an environment variable entries are
separated by commas or newlines.
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

SHORTEST = 16  # characters of a secret: nothing slows down a guesser but the secret's length

LINE = re.compile(
    r"(?:(?P<name>[A-Za-z0-9._-]{1,64})(?:\s*:\s*|\s+))?"
    r"(?P<secret>sha256:[0-9a-fA-F]{64}|[!-9;-~]+)"
    r"(?P<limits>(?:\s+(?:rpm|tpm)=\d{1,12})*)"
)


@dataclass(frozen=True, slots=True)
class Key:
    """One holder of a secret. The secret itself is not kept."""

    name: str
    digest: bytes  # SHA-256 of the secret
    rpm: int | None = None
    tpm: int | None = None


ANONYMOUS = Key("anonymous", b"")  # everybody, where no keys are asked for


def parse(text: str, where: str) -> list[Key]:
    """The keys in a text of the format above.

    Raises:
        ValueError: with `where` and the line's number, never with its text.
    """
    keys: list[Key] = []
    for number, line in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        if not line:
            continue
        match = LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{where}: entry {number} is not `[name] secret [rpm=N] [tpm=N]`")
        secret = match["secret"]
        if secret.startswith("sha256:"):
            digest = bytes.fromhex(secret.removeprefix("sha256:"))
        elif len(secret) < SHORTEST:
            raise ValueError(f"{where}: the key of entry {number} is shorter than {SHORTEST}")
        else:
            digest = hashlib.sha256(secret.encode()).digest()
        if any(key.digest == digest for key in keys):
            raise ValueError(f"{where}: entry {number} has the key of an earlier one")
        limits = dict(part.split("=") for part in match["limits"].split())
        keys.append(
            Key(
                match["name"] or f"key-{digest.hex()[:8]}",
                digest,
                int(limits["rpm"]) if "rpm" in limits else None,
                int(limits["tpm"]) if "tpm" in limits else None,
            )
        )
    return keys


class Keys:
    """Knows the keys of a file and of an environment variable; reads a changed file again.

    With a file or a variable configured and set, a key is always asked for: a file that becomes
    empty closes the endpoint. A changed file that cannot be read or parsed leaves the keys as they
    were, with an error in the log, so that a slip of the pen locks nobody out.
    """

    def __init__(
        self,
        file: str,
        env: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        every: float = 1.0,
    ) -> None:
        """
        Args:
            file: path of a keys file, or "".
            env: name of an environment variable, or "".
            clock: seconds.
            every: seconds between two looks at the file's date.

        Raises:
            ValueError: the file or the variable cannot be read, or holds no key.
        """
        self.file = Path(file) if file else None
        self.clock = clock
        self.every = every
        text = os.environ.get(env, "") if env else ""
        self._fixed = parse(text.replace(",", "\n"), f"${env}")
        if text.strip() and not self._fixed:
            raise ValueError(f"keys_env: ${env} holds no key")
        self._from_file: list[Key] = []
        self._stamp: tuple[int, int, int] | None = None
        if self.file is not None:
            self._stamp = self._look()
            if self._stamp is None:
                raise ValueError(f"keys_file: {file} cannot be read")
            try:
                self._from_file = self._read()
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"keys_file: {file}: {type(error).__name__}") from None
            if not self._from_file:
                raise ValueError(f"keys_file: {file} holds no key")
        self._looked = clock()
        self.all = self._from_file + self._fixed

    @property
    def required(self) -> bool:
        """Whether a key is asked for at all."""
        return self.file is not None or bool(self._fixed)

    def who(self, authorization: str | None) -> Key | None:
        """The holder of the key in an `Authorization: Bearer` header, or None.

        Every known hash is compared, each in constant time: neither the place in the list nor the
        common part of two keys can be told from how long it takes.
        """
        if not self.required:
            return ANONYMOUS
        scheme, _, secret = (authorization or "").partition(" ")
        digest = hashlib.sha256(secret.strip().encode("utf-8", "surrogateescape")).digest()
        found = None
        for key in self.all:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found if scheme.lower() == "bearer" else None

    def refresh(self) -> bool:
        """Reads the file again if it changed; True when the keys are other ones now."""
        now = self.clock()
        if self.file is None or now - self._looked < self.every:
            return False
        self._looked = now
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            if stamp is None:
                raise FileNotFoundError
            keys = self._read()
        except (OSError, ValueError) as error:
            told = str(error) if type(error) is ValueError else type(error).__name__
            log.error("keys_file: %s: %s; the keys before it stay", self.file, told)
            return False
        self._from_file = keys
        self.all = keys + self._fixed
        log.warning("keys_file: read again, %d keys", len(self.all))
        return True

    def _look(self) -> tuple[int, int, int] | None:
        assert self.file is not None
        try:
            stat = self.file.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self) -> list[Key]:
        assert self.file is not None
        return parse(self.file.read_text(encoding="utf-8"), str(self.file))
