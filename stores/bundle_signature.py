"""Who released a bundle: an HMAC-SHA256 of its manifest under a key that release and scorer share.

The manifest names the digest of every file, so its signature covers the bundle. Digests alone tell damage from the
original; a signature tells a bundle of ours from one that somebody else put in its place.
"""

import hmac
import os
from pathlib import Path
from typing import Final

from fraud.bundle import MANIFEST
from fraud.errors import CorruptBundle, InvalidSetting
from stores.bundle_files import read_bundle

SIGNATURE: Final = "manifest.hmac"
KEY_BYTES: Final = 32
"""Shortest key: as long as the hash."""


def read_key(path: str) -> bytes | None:
    """Return the key in a file, its last line end aside; null when no file is named.

    Raises
    ------
    InvalidSetting
        The file cannot be read, or its key is too short to keep anybody out.
    """
    if not path:
        return None
    try:
        key = Path(path).read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise InvalidSetting(f"the bundle key {path!r} cannot be read: {error.strerror}") from None
    if len(key) < KEY_BYTES:
        raise InvalidSetting(f"the bundle key {path!r} has {len(key)} bytes, fewer than {KEY_BYTES}")
    return key


def sign_bundle(directory: Path, key: bytes) -> Path:
    """Put the signature beside the manifest and return its file; equal keys give equal signatures.

    Raises
    ------
    CorruptBundle
        There is no bundle.
    """
    files = read_bundle(directory)
    path = directory / SIGNATURE
    draft = path.with_name(f".{SIGNATURE}-{os.getpid()}")
    draft.write_text(_signature(files[MANIFEST], key) + "\n", encoding="ascii")
    draft.replace(path)
    return path


def read_signed_bundle(directory: Path, key: bytes | None) -> dict[str, bytes]:
    """Return the files of the bundle in ``directory``, signed by ``key`` unless that is null; digests not yet verified.

    Raises
    ------
    CorruptBundle
        As :func:`stores.bundle_files.read_bundle`, or it is not signed by the key.
    """
    place = Path(os.path.realpath(directory))  # once: a link swapped meanwhile must not mix two bundles
    files = read_bundle(place)
    if key is None:
        return files
    try:
        said = (place / SIGNATURE).read_bytes().strip()
    except OSError:
        raise CorruptBundle(f"{directory} is not signed: it holds no {SIGNATURE}") from None
    if not hmac.compare_digest(said, _signature(files[MANIFEST], key).encode()):
        raise CorruptBundle(f"{directory} is not signed by the key of this deployment")
    return files


def _signature(manifest: bytes, key: bytes) -> str:
    return hmac.new(key, manifest, "sha256").hexdigest()
