"""Changing lists in S3: each change on the condition that nobody else has changed the file since it was read.

Two writers at once lose nothing: the one who comes second reads again and writes what both wanted.
"""

import random
import time
from collections.abc import Callable
from typing import Final

from fraud.errors import TollgateError
from serving.list_bucket import ListAddress
from serving.list_file import OWN_FILE
from serving.lists import (
    MAX_BYTES,
    InvalidList,
    Listed,
    ListEntry,
    ListName,
    check_entry,
    decode_entries,
    encode_entries,
    with_entry,
    without_entry,
)
from stores.s3 import ObjectTooLarge

ATTEMPTS: Final = 12
PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 2.0

Entries = tuple[ListEntry, ...]


class ListsContended(TollgateError):
    """Others changed a file of lists faster than we could, every time; nothing was written."""

    code = "lists_contended"
    retryable = True


class ListObjects:
    """A file or folder of lists in S3, to be shown and changed.

    Every method raises ``S3Unavailable`` when S3 does not answer; a change may have been written then, and making it
    again does no harm.

    Parameters
    ----------
    address
        Entries go to a folder's ``OWN_FILE``.
    """

    def __init__(self, address: ListAddress) -> None:
        self._address = address
        self._own = address.key + OWN_FILE if address.is_folder else address.key

    def entries(self) -> list[ListEntry]:
        """Return the entries of all files.

        Raises
        ------
        InvalidList
            There is no such file, or one is malformed.
        """
        address = self._address
        try:
            keys = [item.key for item in address.files()] if address.is_folder else [address.key]
            found = [self._read(key) for key in keys]
        except ObjectTooLarge as error:
            raise InvalidList(f"{address.name(address.key)}: {error}") from None
        finally:
            address.bucket.close()
        if not address.is_folder and not found[0][1]:
            raise address.missing()
        return [entry for entries, _ in found for entry in entries]

    def add(self, entry: ListEntry) -> bool:
        """Add an entry in place of the one for the same key on the same list; return whether there was one.

        Raises
        ------
        InvalidList
            The entry is none, or the file is malformed (it is left as it is).
        ListsContended
            Others were faster every time.
        """
        check_entry(entry)
        before, after = self._change(lambda entries: with_entry(entries, entry))
        return after <= before

    def remove(self, entity: Listed, key: str, name: ListName) -> bool:
        """Remove the entry for a key on a list; return whether there was one.

        Raises
        ------
        InvalidList
            The file is malformed (it is left as it is).
        ListsContended
            Others were faster every time.
        """
        before, after = self._change(lambda entries: without_entry(entries, entity, key, name))
        return after < before

    def _change(self, change: Callable[[Entries], Entries]) -> tuple[int, int]:
        """Write what ``change`` makes of the entries; return how many there were, and are."""
        pause = PAUSE_S
        try:
            for _ in range(ATTEMPTS):
                entries, tag = self._read_own()
                changed = change(entries)
                if changed == entries or self._address.bucket.write(self._own, encode_entries(changed), over=tag):
                    return len(entries), len(changed)
                time.sleep(random.uniform(0.0, pause))
                pause = min(LONGEST_PAUSE_S, 2.0 * pause)
        except ObjectTooLarge as error:
            raise InvalidList(f"{self._address.name(self._own)}: {error}") from None
        finally:
            self._address.bucket.close()
        raise ListsContended(
            f"{self._address.name(self._own)} was changed by others {ATTEMPTS} times while this was tried; try again"
        )

    def _read_own(self) -> tuple[Entries, str]:
        """Return entries and tag of the file that is written.

        A folder is listed first: whoever may list that folder only is told of a missing file that it is forbidden.
        """
        address = self._address
        if address.is_folder and self._own not in {item.key for item in address.files()}:
            return (), ""
        return self._read(self._own)

    def _read(self, key: str) -> tuple[Entries, str]:
        """Return a file's entries and tag; none, and no tag, without a file."""
        found = self._address.bucket.read(key, most_bytes=MAX_BYTES)
        if found is None:
            return (), ""
        return decode_entries(found.content, of=self._address.name(key)), found.etag
