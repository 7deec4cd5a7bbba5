"""Files that deployments name by digest: Feast's registry and the pipeline's definition, in the bucket, never replaced.

The registry is made by one ``feast apply`` in continuous integration and published here; consumers may only read it.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import ClientError

from infra.errors import MissingPrerequisite

KINDS: Final = {"registry": ("registry/", ".db"), "pipeline": ("pipelines/", ".json")}


@dataclass(frozen=True)
class Published:
    """Where a file lies; ``fresh`` is false when it was there already."""

    digest: str
    key: str
    fresh: bool


def publish(s3: Any, bucket: str, kind: str, file: Path) -> Published:
    """Put a file under its digest; the same file again changes nothing.

    Raises
    ------
    MissingPrerequisite
        The kind is unknown, the file is not there or empty, or the bucket refuses.
    """
    if kind not in KINDS:
        raise MissingPrerequisite(f"{kind!r} is nothing to publish; known are {', '.join(sorted(KINDS))}")
    if not file.is_file() or not (content := file.read_bytes()):
        raise MissingPrerequisite(f"{file} is no file, or empty")
    prefix, suffix = KINDS[kind]
    digest = hashlib.sha256(content).hexdigest()
    key = f"{prefix}{digest}{suffix}"
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=content, IfNoneMatch="*")
    except ClientError as error:
        if error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"):
            return Published(digest, key, fresh=False)
        raise MissingPrerequisite(f"s3://{bucket}/{key}: {error.response['Error']['Message']}") from None
    return Published(digest, key, fresh=True)
