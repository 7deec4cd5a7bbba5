"""Feast's registry as a published file: named by its digest, checked when it is read, never written.

``feast apply`` makes the registry once, in continuous integration; ``python -m infra publish`` puts it into the bucket
as ``registry/<sha256>.db``. Whoever works with it afterwards takes it from there: bytes that are not those the name
speaks of are refused, and what Feast notes while it works (``materialize`` records what it has done) stays in this
process. A definition that differs is refused too: it belongs into a new registry under a new name.
"""

import hashlib
import os
import re
from pathlib import Path
from typing import Any, Final

from feast.infra.registry.registry_store import RegistryStore
from feast.protos.feast.core.Registry_pb2 import Registry
from feast.repo_config import RegistryConfig

from fraud.settings import PREFIX
from stores.errors import InvalidStoreConfig, UnreadableSource
from stores.files import Location

_NAME: Final = re.compile(r"(?:^|/)([0-9a-f]{64})\.db$")
_SPECIFIED: Final = ("entities", "feature_views", "on_demand_feature_views", "stream_feature_views", "feature_services")
"""Parts of a registry that have a specification of their own, beside what Feast notes about them."""


class PublishedRegistryStore(RegistryStore):
    """The registry behind an address that ends with its digest.

    Parameters
    ----------
    registry_config
        Its ``path`` is ``s3://bucket/registry/<sha256>.db``, or such a file on disk.
    repo_path
        Where a relative path begins.

    Raises
    ------
    InvalidStoreConfig
        The address names no digest.
    """

    def __init__(self, registry_config: RegistryConfig, repo_path: Path | None) -> None:
        address = str(registry_config.path)
        named = _NAME.search(address)
        if named is None:
            raise InvalidStoreConfig(
                f"registry {address!r}: FRAUD_REGISTRY has to end with the digest that 'python -m infra publish' "
                "printed, as .../registry/<sha256>.db; make a registry with feature_store.local.yaml"
            )
        if not address.startswith(("s3://", "/")) and repo_path is not None:
            address = str(Path(repo_path) / address)
        self._digest = named[1]
        self._place = Location(address, os.environ.get(PREFIX + "AWS_ENDPOINT", ""))
        self._held = b""
        self._published: tuple[Any, ...] = ()

    def get_registry_proto(self) -> Registry:
        """Return the registry: read and checked at first, as this process has left it later.

        Raises
        ------
        UnreadableSource
            It is not there, or its bytes are others than its name says.
        """
        if not self._held:
            self._held = self._read()
            self._published = _definitions(_parsed(self._held))
        return _parsed(self._held)

    def update_registry_proto(self, registry_proto: Registry) -> None:
        """Keep Feast's notes for the rest of this process.

        Raises
        ------
        InvalidStoreConfig
            Definitions would change.
        """
        published = self._published or _definitions(self.get_registry_proto())
        if _definitions(registry_proto) != published:
            raise InvalidStoreConfig(
                f"{self._place.address} is published and read-only: apply changed definitions in continuous "
                "integration (feast -c feature_repo apply) and publish them under a digest of their own"
            )
        self._held = registry_proto.SerializeToString()

    def teardown(self) -> None:
        """Refuse.

        Raises
        ------
        InvalidStoreConfig
            Always.
        """
        raise InvalidStoreConfig(f"{self._place.address} is published and read-only")

    def set_project_metadata(self, project: str, key: str, value: str) -> None:
        """Keep nothing: what Feast asks for here is its own telemetry."""

    def get_project_metadata(self, project: str, key: str) -> str | None:  # noqa: ARG002  # as Feast asks for it
        """Return nothing."""
        return None

    def _read(self) -> bytes:
        filesystem, path = self._place.open()
        try:
            with filesystem.open_input_stream(path) as stream:
                content = bytes(stream.read())
        except OSError as error:
            raise UnreadableSource(f"{self._place.address} cannot be read: {error}") from error
        found = hashlib.sha256(content).hexdigest()
        if found != self._digest:
            raise UnreadableSource(f"{self._place.address} holds other bytes than its name says (sha256 {found})")
        return content


def _parsed(content: bytes) -> Registry:
    registry = Registry()
    registry.ParseFromString(content)
    return registry


def _definitions(registry: Registry) -> tuple[Any, ...]:
    """Return what was declared, without what Feast notes about it: times, states, materialized intervals."""
    specified = [
        (part, sorted(_bare(item.spec).SerializeToString(deterministic=True) for item in getattr(registry, part)))
        for part in _SPECIFIED
    ]
    return (*specified, sorted(_bare(source).SerializeToString(deterministic=True) for source in registry.data_sources))


def _bare(message: Any) -> Any:
    """Return a copy in which sources are without what Feast adds at one time and leaves out at another."""
    copy = type(message)()
    copy.CopyFrom(message)
    waiting = [copy]
    while waiting:
        one = waiting.pop()
        if one.DESCRIPTOR.name == "DataSource":
            one.ClearField("data_source_class_type")
            one.ClearField("meta")
        for field, value in one.ListFields():
            if field.message_type is None or field.message_type.GetOptions().map_entry:
                continue
            waiting += list(value) if hasattr(value, "add") else [value]
    return copy
