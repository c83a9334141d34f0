"""Files of public repositories, by commit and checksum, fetched once and kept in the store.

uri = fetch(file, store)        <store>/downloads/<repository>/<commit>/<path>
"""

import hashlib
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

from limo_ray.core.uris import redact
from limo_ray.storage.store import Store

GITHUB = "https://raw.githubusercontent.com"
TRIES = 3
TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PinnedFile:
    """A file of a repository on GitHub, as it was at a commit."""

    repository: str
    """owner/name."""
    commit: str
    path: str
    sha256: str
    licence: str
    """As the repository states it."""

    @property
    def name(self) -> str:
        """Its name in a store."""
        return f"downloads/{self.repository}/{self.commit}/{self.path}"

    def url(self, mirror: str = GITHUB) -> str:
        """Its address on GitHub, or on a mirror that has the same paths."""
        return f"{mirror.rstrip('/')}/{self.repository}/{self.commit}/{self.path}"

    def is_in(self, store: Store) -> bool:
        """Whether the store has it, whole and unchanged."""
        return store.exists(self.name) and self._fits(store.read_bytes(self.name))

    def _fits(self, content: bytes) -> bool:
        return hashlib.sha256(content).hexdigest() == self.sha256


def fetch(file: PinnedFile, store: Store, mirror: str = GITHUB) -> str:
    """The URI of the store's copy, which is downloaded where there is none.

    Raises:
        ValueError: it cannot be had, or what came has another checksum.
    """
    if not file.is_in(store):
        url = file.url(mirror)
        content = _download(url)
        if not file._fits(content):
            raise ValueError(f"{redact(url)}: another file than the pinned one (SHA-256 differs)")
        store.write_bytes(file.name, content)
    return store.within(file.name).uri


def head(url: str) -> str:
    """Why an address cannot be had; "" when it can."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT_S)
    except (OSError, ValueError) as error:
        return _reason(error)
    return ""


def _download(url: str) -> bytes:
    for tries in range(1, TRIES + 1):
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
                content: bytes = answer.read()
                return content
        except (OSError, ValueError) as error:
            if tries == TRIES or getattr(error, "code", 500) < 500:
                raise ValueError(f"cannot fetch {redact(url)}: {_reason(error)}") from None
            time.sleep(tries)
    raise AssertionError


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code} {error.reason}"
    return str(getattr(error, "reason", "") or error)
