"""The Hugging Face hub: can it be reached, what does it say of a repository, what is cached."""

import os
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

from limo_ray.core.text import first_line

TRIES = 3
TIMEOUT_S = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Repository:
    """What the hub says of a model or data set."""

    commit: str
    licence: str


def use_cache_if_unreachable() -> str:
    """Sets Hugging Face's offline mode where the hub cannot be reached; returns why, or "".

    Without it each file that is asked for is tried for half a minute.
    """
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("0", ""):
        return ""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    why = ""
    for tries in range(TRIES):
        time.sleep(tries)
        try:
            request = urllib.request.Request(endpoint, method="HEAD")
            urllib.request.urlopen(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError:
            return ""  # something answers
        except (OSError, ValueError) as error:
            why = f"{endpoint} cannot be reached ({getattr(error, 'reason', '') or error})"
            continue
        return ""
    os.environ["HF_HUB_OFFLINE"] = "1"
    for module in ("huggingface_hub.constants", "datasets.config"):
        if module in sys.modules:  # it has read the variable already
            sys.modules[module].HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
    return why


def look(name: str, kind: str, revision: str = "") -> Repository:
    """Asks the hub for a repository.

    Args:
        kind: model or dataset.

    Raises:
        ValueError: it is not there, has conditions that were not accepted, or the hub is away.
    """
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled

    api = HfApi()
    try:
        found = api.repo_info(name, repo_type=kind, revision=revision or None, timeout=TIMEOUT_S)
        if getattr(found, "gated", False):
            api.auth_check(name, repo_type=kind)
    except GatedRepoError:
        raise ValueError("has conditions: accept them on its page, then `hf auth login`") from None
    except OfflineModeIsEnabled:
        raise ValueError("the hub is not asked (HF_HUB_OFFLINE)") from None
    except (HfHubHTTPError, httpx.HTTPError, OSError) as error:
        raise ValueError(first_line(error)) from None
    card = getattr(found, "card_data", None)
    licence = card.get("license") if card else ""
    return Repository(commit=found.sha or "", licence=str(licence or ""))


def is_cached(name: str, kind: str, revision: str = "") -> bool:
    """Whether a model's weights, or any file of a data set, lie in the cache of this machine."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        found = scan_cache_dir(constants.HF_HUB_CACHE)
    except CacheNotFound:
        return False
    return any(
        kind == "dataset" or file.file_name.endswith((".safetensors", ".bin"))
        for repository in found.repos
        if repository.repo_id == name and repository.repo_type == kind
        for cached in repository.revisions
        if not revision or revision in (cached.commit_hash, *cached.refs)
        for file in cached.files
    )
