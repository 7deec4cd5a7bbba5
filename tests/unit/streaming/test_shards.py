"""Parents before children; checkpoints that are whole or refused."""

from pathlib import Path

import pytest

from fraud.errors import InvalidSetting
from streaming.shards import (
    CHECKPOINTS,
    Checkpoint,
    Checkpoints,
    Shard,
    read_checkpoints,
    readable_shards,
    write_checkpoints,
)

MERGED = [Shard("a"), Shard("b"), Shard("ab", ("a", "b")), Shard("x", ("ab",)), Shard("y", ("ab",))]


def ended(*names: str) -> dict[str, Checkpoint]:
    return {name: Checkpoint("9", ended=True) for name in names}


def test_child_of_a_merge_waits_for_both_parents() -> None:
    assert readable_shards(MERGED, ended("a")) == ["b"]
    assert readable_shards(MERGED, ended("a", "b")) == ["ab"]
    assert readable_shards(MERGED, ended("a", "b", "ab")) == ["x", "y"]


def test_parent_that_left_the_stream_holds_nobody_up() -> None:
    assert readable_shards([Shard("x", ("gone",))], {}) == ["x"]


def test_checkpoints_come_back_as_written(tmp_path: Path) -> None:
    assert read_checkpoints(tmp_path, "s") == Checkpoints("s", {})
    kept = Checkpoints("s", {"a": Checkpoint("12"), **ended("b")})
    write_checkpoints(tmp_path, kept)
    assert read_checkpoints(tmp_path, "s") == kept
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINTS]


def test_checkpoints_of_another_stream_are_refused(tmp_path: Path) -> None:
    write_checkpoints(tmp_path, Checkpoints("s", {}))
    with pytest.raises(InvalidSetting, match="belongs to stream 's', not 't'"):
        read_checkpoints(tmp_path, "t")


def test_torn_checkpoints_are_refused(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINTS).write_bytes(b'{"stream": "s", "sh')
    with pytest.raises(InvalidSetting, match="holds no checkpoints"):
        read_checkpoints(tmp_path, "s")
