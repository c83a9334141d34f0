"""Publishing on the Hugging Face hub: only where `publish.hub` names a repository.

A repository that is there must not be more open than was asked for. Uploading the same files again
changes nothing.
"""

import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from limo_ray.core.errors import LimoError
from limo_ray.core.text import first_line
from limo_ray.storage.store import Store

log = logging.getLogger(__name__)


class PublishError(LimoError):
    """The hub did not take it; what was made lies in the store."""


@dataclass(kw_only=True, slots=True)
class PublishConfig:
    """Where results are published; nowhere unless `hub` is set."""

    hub: str = ""
    """Repository on the Hugging Face hub, owner/name, made if it is not there; empty for none."""
    private: bool = True
    """Make a private repository, and refuse one that is public."""

    def check(self) -> None:
        if self.hub and not re.fullmatch(r"[\w.-]+/[\w.-]+", self.hub):
            raise ValueError(f"hub: {self.hub!r} must be owner/name")


def upload(config: PublishConfig, kind: str, source: Store, patterns: list[str], made: str) -> str:
    """Uploads files of a folder; returns the address, empty where nothing was asked for.

    Args:
        kind: model or dataset.
        source: the folder; its own address appears nowhere.
        patterns: names of the files that are uploaded, with `*`.
        made: what it is, for the commit's message.

    Raises:
        PublishError: the hub refuses or is not there, or the repository is public where a private
            one was asked for.
    """
    if not config.hub:
        return ""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        address = api.create_repo(config.hub, repo_type=kind, private=config.private, exist_ok=True)
        if config.private and not api.repo_info(config.hub, repo_type=kind).private:
            raise PublishError(
                f"publish.private: {config.hub} is public: make it private, or set "
                "publish.private=false"
            )
        with _local(source) as folder:
            api.upload_folder(
                repo_id=config.hub, repo_type=kind, folder_path=folder, allow_patterns=patterns,
                commit_message=f"{made}, by limo_ray",
            )  # fmt: skip
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as error:
        raise PublishError(
            f"publish.hub: {config.hub}: {first_line(error)} (a token is taken from `hf auth "
            "login` or $HF_TOKEN; the same command tries again)"
        ) from None
    log.info("published %s: %s", made, address)
    return str(address)


@contextmanager
def _local(source: Store) -> Iterator[str]:
    """A store's folder as a local one: itself, or a copy for as long as it is needed."""
    if source.local:
        yield source.path("")
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in source.files("", suffix=""):
            source.copy_out(name, Path(folder) / name)
        yield folder
