"""Which shards to read, in which order, and from where: parents before children, checkpoints that survive a kill."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from fraud.errors import InvalidSetting
from streaming.folders import write_whole

CHECKPOINTS: Final = "checkpoints.json"


@dataclass(frozen=True)
class Shard:
    """A shard and where it came from: one parent after a split, two after a merge, none at the beginning."""

    name: str
    parents: tuple[str, ...] = ()


class Checkpoint(msgspec.Struct, frozen=True):
    """How far a shard is applied.

    Parameters
    ----------
    sequence_number
        Of the last record that is applied and logged; empty for none yet.
    ended
        Whether the shard is closed and read to its end.
    """

    sequence_number: str = ""
    ended: bool = False


class Checkpoints(msgspec.Struct):
    """The checkpoints of a stream, by shard."""

    stream: str
    shards: dict[str, Checkpoint]


def read_checkpoints(directory: Path, stream: str) -> Checkpoints:
    """Return the checkpoints in ``directory``, none at all in a new one.

    Raises
    ------
    InvalidSetting
        They are unreadable or of another stream.
    """
    path = directory / CHECKPOINTS
    if not path.exists():
        return Checkpoints(stream, {})
    try:
        held = msgspec.json.decode(path.read_bytes(), type=Checkpoints)
    except msgspec.DecodeError as error:
        raise InvalidSetting(f"{path} holds no checkpoints ({error}); remove it to read the stream again") from None
    if held.stream != stream:
        raise InvalidSetting(f"{path} belongs to stream {held.stream!r}, not {stream!r}; use another directory")
    return held


def write_checkpoints(directory: Path, checkpoints: Checkpoints) -> None:
    """Replace the checkpoints in ``directory`` whole."""
    write_whole(directory / CHECKPOINTS, msgspec.json.encode(checkpoints))


def list_shards(client: Any, stream: str) -> list[Shard]:
    """Return the stream's shards, closed ones that still hold records included."""
    found: list[Shard] = []
    page = client.list_shards(StreamName=stream)
    while True:
        for item in page["Shards"]:
            parents = (item.get("ParentShardId"), item.get("AdjacentParentShardId"))
            found.append(Shard(item["ShardId"], tuple(parent for parent in parents if parent)))
        token = page.get("NextToken")
        if not token:
            return found
        page = client.list_shards(NextToken=token)


def readable_shards(shards: Sequence[Shard], checkpoints: Mapping[str, Checkpoint]) -> list[str]:
    """Return the shards to read now: not ended, and every parent that still exists read to its end.

    Examples
    --------
    >>> split = [Shard("a"), Shard("b", ("a",)), Shard("c", ("a",))]
    >>> readable_shards(split, {}), readable_shards(split, {"a": Checkpoint("9", ended=True)})
    (['a'], ['b', 'c'])
    """
    present = {shard.name for shard in shards}
    ended = {name for name, checkpoint in checkpoints.items() if checkpoint.ended}
    return [
        shard.name
        for shard in shards
        if shard.name not in ended and all(parent in ended or parent not in present for parent in shard.parents)
    ]
