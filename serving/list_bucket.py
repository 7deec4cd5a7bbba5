"""Lists in S3, as a scorer reads them whose instance shares no folder with others.

``s3://bucket/key`` is a file; ``s3://bucket/folder/`` is every ``*.json`` right below, and an empty one lists nobody.
A look at what has not changed costs one small question. It waits for S3, so it belongs into a thread of its own.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fraud.errors import InvalidSetting
from fraud.settings import S3_ADDRESS
from serving.lists import MAX_BYTES, InvalidList, ListEntry, Lists, decode_entries, make_lists
from stores.s3 import Bucket, Listed, ObjectTooLarge

POLL_S: Final = 5.0


def is_in_s3(place: str) -> bool:
    """Return whether a place of lists is meant to lie in S3."""
    return place.startswith("s3:")


@dataclass(frozen=True)
class ListAddress:
    """An address taken apart; of a folder the key ends with a slash."""

    bucket: Bucket
    key: str

    @property
    def is_folder(self) -> bool:
        """Whether there may be several files."""
        return self.key.endswith("/")

    def name(self, key: str) -> str:
        """Return a file's own address."""
        return f"s3://{self.bucket.name}/{key}"

    def files(self) -> list[Listed]:
        """Return the folder's files of lists, in the order of their names; see :meth:`stores.s3.Bucket.folder`."""
        found = self.bucket.folder(self.key)
        names = {item.key: item.key.removeprefix(self.key) for item in found}
        return [item for item in found if names[item.key].endswith(".json") and not names[item.key].startswith(".")]

    def missing(self) -> InvalidList:
        """Return what is to be said when there is no such file."""
        own = self.name(self.key)
        return InvalidList(f"{own} does not exist; add an entry with: python -m serving lists add --file {own}")


def open_address(address: str, *, region: str, endpoint: str, environ: Mapping[str, str]) -> ListAddress:
    """Return the place at an address; nothing is asked yet.

    Parameters
    ----------
    region, endpoint, environ
        See :class:`stores.s3.Bucket`.

    Raises
    ------
    InvalidSetting
        It is no address.
    """
    parts = re.fullmatch(S3_ADDRESS, address)
    if parts is None:
        raise InvalidSetting(f"{address!r} is neither s3://bucket/key nor s3://bucket/folder/")
    return ListAddress(Bucket(parts[1], region, endpoint, environ=environ), parts[2])


class ListBucket:
    """Lists at an address, looked at by one thread."""

    poll_s = POLL_S
    patience = 3
    """Looks that may fail, one after another, before the lists in force count as outdated."""

    first_wait_s = 3.0

    def __init__(self, address: ListAddress) -> None:
        self._address = address
        self._seen: dict[str, str] | None = None
        self._held: dict[str, tuple[str, tuple[ListEntry, ...]]] = {}

    def look(self) -> Lists | None:
        """Return the lists if they are others than at the last look; null when they are not.

        Raises
        ------
        InvalidList
            They are others, and a file is malformed, missing or too large; not raised again for the same files.
        S3Unavailable, NoCredentials
            S3 does not say what there is.
        """
        address = self._address
        failure: InvalidList | None = None
        try:
            tags, contents = self._folder() if address.is_folder else self._file()
        except _Unfit as unfit:
            tags, contents, failure = unfit.tags, {}, unfit.failure
        finally:
            address.bucket.close()
        if tags == self._seen:
            return None
        self._seen = tags
        if failure is not None:
            raise failure
        held = {key: known for key, known in self._held.items() if known[0] == tags.get(key)}
        held |= {key: (tags[key], decode_entries(contents[key], of=address.name(key))) for key in contents}
        self._held = held
        return make_lists(entry for key in sorted(held) for entry in held[key][1])

    def _file(self) -> tuple[dict[str, str], dict[str, bytes]]:
        """Return the tag and, when it is another, the content of the one file."""
        address, key = self._address, self._address.key
        unless = (self._seen or {}).get(key, "")
        try:
            found = address.bucket.read(key, most_bytes=MAX_BYTES, unless=unless)
        except ObjectTooLarge as error:
            raise _Unfit({key: error.etag}, InvalidList(f"{address.name(key)}: {error}")) from None
        if found is None:
            raise _Unfit({}, address.missing())
        return {key: found.etag}, {key: found.content}

    def _folder(self) -> tuple[dict[str, str], dict[str, bytes]]:
        """Return the tags of all files and, when there are others, the content of those that are not held."""
        address = self._address
        try:
            files = address.files()
        except ObjectTooLarge as error:
            raise _Unfit({address.key: "too many"}, InvalidList(str(error))) from None
        tags = {item.key: item.etag for item in files}
        if tags == self._seen:
            return tags, {}
        total = sum(item.size for item in files)
        if total > MAX_BYTES:
            raise _Unfit(tags, InvalidList(f"{address.name(address.key)} holds {total} bytes, more than {MAX_BYTES}"))
        contents: dict[str, bytes] = {}
        for key in [key for key, tag in tags.items() if self._held.get(key, ("",))[0] != tag]:
            try:
                found = address.bucket.read(key, most_bytes=MAX_BYTES)
            except ObjectTooLarge as error:
                raise _Unfit(tags, InvalidList(f"{address.name(key)}: {error}")) from None
            if found is None:  # taken away since the folder was listed
                del tags[key]
            else:
                tags[key], contents[key] = found.etag, found.content
        return tags, contents


class _Unfit(Exception):
    """What there is cannot be lists; carries the tags by which it is known again, and what is to be said."""

    def __init__(self, tags: dict[str, str], failure: InvalidList) -> None:
        super().__init__(str(failure))
        self.tags = tags
        self.failure = failure
