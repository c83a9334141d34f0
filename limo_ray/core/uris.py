"""File systems by URI: local paths, s3://, gs://. Patient with outages, silent about credentials.

    filesystem, path = open_uri("s3://bucket/limo?region=eu-west-1")

Credentials belong in the environment or a role (AWS_ACCESS_KEY_ID, instance profiles,
GOOGLE_APPLICATION_CREDENTIALS), and AWS_ENDPOINT_URL names another server than Amazon's. A URI may
hold both all the same: `redact` is for every place where one is shown or written.
"""

import re
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs

from limo_ray.core.text import first_line

S3_ATTEMPTS = 10  # of one request, with a growing pause between: half a minute in all
GCS_PATIENCE_S = 60

_SECRET = re.compile(r"(?<=://)[^/\s@:'\",]*(?::[^\s@'\",]*)?@")


def redact(text: str) -> str:
    """A text with `***` in place of what stands before the @ of its URIs."""
    return _SECRET.sub("***@", text)


def redacted(value: Any) -> Any:
    """Plain values (dicts, lists, texts) with every text redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redacted(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(each) for each in value]
    return value


def split(uri: str) -> tuple[str, str]:
    """A URI without its query, and the query with its question mark, or empty."""
    bare, mark, query = uri.partition("?")
    return bare, mark + query


def open_uri(uri: str) -> tuple[pafs.FileSystem, str]:
    """The file system of a URI or absolute path, and the path there.

    Raises:
        ValueError: a URI that cannot be read, shown without its credentials.
    """
    if not uri.startswith(("s3://", "gs://", "gcs://")):
        return pafs.FileSystem.from_uri(uri)
    bare, query = split(uri)
    scheme, _, rest = bare.partition("://")
    secret = _SECRET.match(bare, len(scheme) + 3)
    who = secret[0] if secret else ""
    bucket, _, path = rest.removeprefix(who).partition("/")
    who = who.replace("/", "%2F")  # Amazon's keys have them
    filesystem = _object_store(f"{scheme}://{who}{bucket}{query}")
    return filesystem, f"{bucket}/{unquote(path)}".rstrip("/")


@lru_cache(maxsize=32)
def _object_store(uri: str) -> pafs.FileSystem:
    """One client per bucket and process: each keeps connections, and S3's asks for the region."""
    try:
        if not uri.startswith("s3://"):
            if "retry_limit_seconds=" not in uri:
                uri += f"{'&' if '?' in uri else '?'}retry_limit_seconds={GCS_PATIENCE_S}"
            return pafs.FileSystem.from_uri(uri)[0]
        plain = pafs.FileSystem.from_uri(uri)[0]
    except (pa.ArrowInvalid, OSError) as error:
        told = redact(first_line(str(error).replace(uri, redact(uri))))
        raise ValueError(f"{redact(uri)}: {told}") from None
    # What the URI says, and what no URI can say: more patience, and one request to write a small
    # file in place of three.
    return pafs.S3FileSystem(
        **(plain.__reduce__()[1][0] | {"allow_delayed_open": True}),
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=S3_ATTEMPTS),
    )
