"""Allow and block lists: entries with an author, a reason and an end, looked up by entity.

They lie in one JSON file, or in every ``*.json`` file of a folder, on disk or in S3 (:mod:`serving.list_bucket`)::

    {"format": 1, "entries": [{"entity": "card", "key": "c1", "list": "block", "reason": "reported stolen",
                               "added_by": "ann", "added_ms": 1770000000000, "expires_ms": 1772592000000}]}

A blocked entity beats an allowed one. An entry that has expired does nothing, whether or not anybody removes it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from fraud.errors import InvalidTransaction, TollgateError
from fraud.transaction import Transaction, check_identifier

Listed = Literal["card", "device", "merchant", "ip"]
ListName = Literal["allow", "block"]
LISTED: Final[tuple[Listed, ...]] = ("card", "device", "merchant", "ip")
LISTS: Final[tuple[ListName, ...]] = ("allow", "block")
FORMAT: Final = 1
MAX_BYTES: Final = 256 << 20
"""Of one file: two million entries."""

MAX_TEXT: Final = 200


class InvalidList(TollgateError):
    """A file of lists cannot be read, or an entry of it is none."""

    code = "invalid_list"


class ListEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One entry.

    Parameters
    ----------
    entity, key
        Who is listed, by its token.
    list
        Where.
    reason, added_by, added_ms
        Why, by whom, when (epoch ms).
    expires_ms
        From then on it does nothing (epoch ms).
    """

    entity: Listed
    key: str
    list: ListName
    reason: str
    added_by: str
    added_ms: int
    expires_ms: int


class ListDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of one file."""

    format: int
    entries: tuple[ListEntry, ...]


@dataclass(frozen=True)
class Lists:
    """All entries, as a decision asks for them: per list and entity, the key's entry that ends last."""

    allow: Mapping[Listed, Mapping[str, ListEntry]]
    block: Mapping[Listed, Mapping[str, ListEntry]]
    size: int = 0

    def find(self, transaction: Transaction, now_ms: int) -> ListEntry | None:
        """Return the entry that decides a transaction, a block before an allowance; null when none does."""
        if not self.size:
            return None
        return _find(self.block, transaction, now_ms) or _find(self.allow, transaction, now_ms)

    def counts(self, now_ms: int) -> dict[ListName, int]:
        """Return how many entries of each list are in force."""
        both: dict[ListName, Mapping[Listed, Mapping[str, ListEntry]]] = {"allow": self.allow, "block": self.block}
        return {
            name: sum(entry.expires_ms > now_ms for keys in held.values() for entry in keys.values())
            for name, held in both.items()
        }


def _find(held: Mapping[Listed, Mapping[str, ListEntry]], transaction: Transaction, now_ms: int) -> ListEntry | None:
    for entity, keys in held.items():
        key = _key_of(transaction, entity)
        entry = keys.get(key) if key is not None else None
        if entry is not None and entry.expires_ms > now_ms:
            return entry
    return None


def _key_of(transaction: Transaction, entity: Listed) -> str | None:
    if entity == "card":
        return transaction.card_id
    if entity == "device":
        return transaction.device_id
    return transaction.merchant_id if entity == "merchant" else transaction.ip


NOTHING: Final = Lists({}, {})


def make_lists(entries: Iterable[ListEntry]) -> Lists:
    """Return lists of entries; of two on one list for one key the one that ends last counts."""
    held: dict[ListName, dict[Listed, dict[str, ListEntry]]] = {"allow": {}, "block": {}}
    size = 0
    for entry in entries:
        keys = held[entry.list].setdefault(entry.entity, {})
        known = keys.get(entry.key)
        size += known is None
        if known is None or known.expires_ms < entry.expires_ms:
            keys[entry.key] = entry
    return Lists(held["allow"], held["block"], size)


_decoder: Final = msgspec.json.Decoder(ListDocument)


def list_files(place: Path) -> list[Path]:
    """Return the files of lists at a place, in the order of their names.

    Raises
    ------
    InvalidList
        There is nothing there.
    """
    if place.is_dir():
        return sorted(path for path in place.glob("*.json") if not path.name.startswith("."))
    if not place.exists():
        raise InvalidList(f"{place} does not exist; add an entry with: python -m serving lists add --file {place}")
    return [place]


def read_entries(path: Path) -> tuple[ListEntry, ...]:
    """Return the entries of one file.

    Raises
    ------
    InvalidList
        It cannot be read, is absurdly large, or is no file of lists; the sentence names file and field.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidList(f"{path} is larger than {MAX_BYTES} bytes")
        return decode_entries(path.read_bytes(), of=str(path))
    except OSError as error:
        raise InvalidList(f"{path} cannot be read: {error.strerror}") from None


def decode_entries(content: bytes, *, of: str) -> tuple[ListEntry, ...]:
    """Return the entries in the bytes of one file; ``of`` names it.

    Raises
    ------
    InvalidList
        It is no file of lists.
    """
    try:
        document = _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidList(f"{of} is no file of lists: {error}") from None
    if document.format != FORMAT:
        raise InvalidList(f"{of} has format {document.format}, not {FORMAT}")
    for number, entry in enumerate(document.entries):
        check_entry(entry, of=f"{of} entry {number}: ")
    return document.entries


def encode_entries(entries: tuple[ListEntry, ...]) -> bytes:
    """Return the bytes of one file, an entry's field a line, for people and for what compares versions."""
    return msgspec.json.format(msgspec.json.encode(ListDocument(format=FORMAT, entries=entries)), indent=1) + b"\n"


def with_entry(entries: tuple[ListEntry, ...], entry: ListEntry) -> tuple[ListEntry, ...]:
    """Return entries with one in place of that for the same key on the same list."""
    return (*without_entry(entries, entry.entity, entry.key, entry.list), entry)


def without_entry(entries: tuple[ListEntry, ...], entity: Listed, key: str, name: ListName) -> tuple[ListEntry, ...]:
    """Return entries without that for a key on a list."""
    return tuple(e for e in entries if (e.entity, e.key, e.list) != (entity, key, name))


def check_entry(entry: ListEntry, *, of: str = "") -> None:
    """Raise :class:`InvalidList` unless an entry's fields are in their range; ``of`` begins the sentence."""
    try:
        check_identifier("key", entry.key)
    except InvalidTransaction as error:
        raise InvalidList(f"{of}{error}") from None
    for name, text in (("reason", entry.reason), ("added_by", entry.added_by)):
        if not (0 < len(text) <= MAX_TEXT and text.isprintable()):
            raise InvalidList(f"{of}{name} is not 1 to {MAX_TEXT} printable characters")
    if entry.expires_ms <= entry.added_ms:
        raise InvalidList(f"{of}expires_ms {entry.expires_ms} is not after added_ms {entry.added_ms}")


def read_lists(place: Path) -> Lists:
    """Return the lists in a file, or in all files of a folder.

    Raises
    ------
    InvalidList
        Any of them is malformed: half a list is no list.
    """
    return make_lists(entry for path in list_files(place) for entry in read_entries(path))


def fingerprint(place: Path) -> tuple[object, ...]:
    """Return what changes when a list does: names, sizes, times and inodes; cheap enough to poll."""
    found: list[object] = []
    try:
        for path in list_files(place):
            status = path.stat()
            found.append((path.name, status.st_size, status.st_mtime_ns, status.st_ino))
    except (OSError, InvalidList) as error:
        found.append(type(error).__name__)
    return tuple(found)
