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

# user:password@ of a URI: a password may hold any character but white space, and an @ before the
# first slash that follows one
_IN_URI = re.compile(r"(?<=://)[^/\s@:]*(?::[^\s@]*(?:@[^\s@/?#]*(?=@))*)?@")
_NAME = (
    r"(?:[\w-]*[-_])?(?:api[-_]?key|access[-_]?key(?:[-_]?id)?|secret(?:[-_]?(?:access[-_]?)?key)?|"
    r"private[-_]?key|password|passwd|passphrase|credentials?|authorization|cookie|"
    r"(?:(?:auth|access|api|bearer|client|hf|hub|id|refresh|secret|session)[-_]?)?token)"
)
_SECRET_NAME = re.compile(_NAME, re.IGNORECASE)
# name=value and name: value, on command lines and in queries, headers and JSON
_ASSIGNED = re.compile(
    rf"(?<![\w-])({_NAME}[\"']?\s?(?:=|:(?=\s?[\"'])|(?<=authorization):|(?<=password):)\s?[\"']?"
    r"(?:(?:bearer|basic|token)\s)?)(?!\*\*\*)[^\s\"'&,;}\])]+",
    re.IGNORECASE,
)
_OPTION = re.compile(rf"(--{_NAME}\s+)(?!-)\S+", re.IGNORECASE)
# keys that say themselves that they are one: OpenAI, Hugging Face, Amazon, GitHub
_KNOWN = re.compile(
    r"\b(?:sk-[\w-]{16,}|hf_\w{20,}|(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_\w{30,}|"
    r"(?<=Bearer )[\w.~+/-]{8,}=*)"
)


def redact(text: str) -> str:
    """A text with `***` in place of credentials: in URIs, behind secret names, of known forms."""
    text = _IN_URI.sub("***@", text)
    text = _OPTION.sub(r"\1***", _ASSIGNED.sub(r"\1***", text))
    return _KNOWN.sub("***", text)


def redacted(value: Any) -> Any:
    """Plain values (dicts, lists, texts) with every text redacted.

    Of a dict, texts under names such as `api_key` or `password`, and all values under `headers`,
    are masked whole.
    """
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: _redacted_value(str(key), each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(each) for each in value]
    return value


def _redacted_value(name: str, value: Any) -> Any:
    if isinstance(value, str) and value and _SECRET_NAME.fullmatch(name):
        return "***"
    if isinstance(value, dict) and name.lower().endswith("headers"):
        return dict.fromkeys(value, "***")
    return redacted(value)


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
        opened: tuple[pafs.FileSystem, str] = pafs.FileSystem.from_uri(uri)
        return opened
    bare, query = split(uri)
    scheme, _, rest = bare.partition("://")
    secret = _IN_URI.match(bare, len(scheme) + 3)
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
