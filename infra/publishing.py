"""Files that deployments name by digest: Feast's registry and the pipeline's definition, in the bucket, never replaced.

The registry is made by one ``feast apply`` in continuous integration and published here; consumers may only read it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import ClientError

from infra.errors import MissingPrerequisite

NO_BUCKET: Final = "NoSuchBucket"
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
        The kind is unknown, the file is not there, empty or of another kind, or the bucket refuses.
    ClientError
        There is no such bucket.
    """
    if kind not in KINDS:
        raise MissingPrerequisite(f"{kind!r} is nothing to publish; known are {', '.join(sorted(KINDS))}")
    if not file.is_file() or not (content := file.read_bytes()):
        raise MissingPrerequisite(f"{file} is no file, or empty")
    wrong = _CHECKS[kind](content)
    if wrong:
        raise MissingPrerequisite(f"{file} is no {kind}: {wrong}")
    prefix, suffix = KINDS[kind]
    digest = hashlib.sha256(content).hexdigest()
    key = f"{prefix}{digest}{suffix}"
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=content, IfNoneMatch="*")
    except ClientError as error:
        if error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"):
            return Published(digest, key, fresh=False)
        if error.response["Error"]["Code"] == NO_BUCKET:
            raise
        raise MissingPrerequisite(f"s3://{bucket}/{key}: {error.response['Error']['Message']}") from None
    return Published(digest, key, fresh=True)


def _registry(content: bytes) -> str:
    """Return why bytes are no registry of Feast's; empty when they are one."""
    # Feast's import takes seconds.
    from feast.protos.feast.core.Registry_pb2 import Registry
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no types

    remedy = "run 'feast -c feature_repo apply' and publish the registry.db that it writes"
    try:
        projects = [project.spec.name for project in Registry.FromString(content).projects]
    except DecodeError:
        return f"it does not parse; {remedy}"
    return "" if any(projects) else f"it has no project; {remedy}"


def _pipeline(content: bytes) -> str:
    """Return why bytes are no definition of a pipeline; empty when they are one."""
    remedy = "publish what 'python -m retraining pipeline' writes"
    try:
        definition = json.loads(content)
    except (ValueError, RecursionError):
        return f"it is no JSON; {remedy}"
    if not isinstance(definition, dict):
        return f"it is no JSON object; {remedy}"
    missing = [name for name, kind in (("Version", str), ("Steps", list)) if not _holds(definition.get(name), kind)]
    return f"it has no {' and no '.join(missing)}; {remedy}" if missing else ""


def _holds(value: object, kind: type) -> bool:
    return isinstance(value, kind) and bool(value)


_CHECKS: Final[Mapping[str, Callable[[bytes], str]]] = {"registry": _registry, "pipeline": _pipeline}
