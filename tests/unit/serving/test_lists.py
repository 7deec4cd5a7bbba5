"""Lists: a block beats an allowance, an end is an end, and half a list is no list."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.list_reload import ListFolder, ListReloader
from serving.lists import LISTED, LISTS, InvalidList, ListEntry, Lists, make_lists, read_lists
from serving.metrics import Metrics
from tests.support.scorers import payment

NOW = 1_770_000_000_000


def entry(**changes: Any) -> ListEntry:
    fields = {
        "entity": "card",
        "key": "c1",
        "list": "block",
        "reason": "reported stolen",
        "added_by": "ann",
        "added_ms": NOW - 1000,
        "expires_ms": NOW + 1000,
    }
    return msgspec.convert(fields | changes, ListEntry)


def write(path: Path, *entries: ListEntry) -> Path:
    path.write_bytes(msgspec.json.encode({"format": 1, "entries": entries}))
    return path


entries = st.builds(
    entry,
    entity=st.sampled_from(LISTED),
    key=st.sampled_from(["c1", "d1", "m1", "i1", "x"]),
    list=st.sampled_from(LISTS),
    expires_ms=st.integers(NOW - 900, NOW + 900),
)


@given(st.lists(entries, max_size=12), st.integers(NOW - 950, NOW + 950))
def test_lists_decide_as_reading_every_entry_would(held: list[ListEntry], now_ms: int) -> None:
    transaction = payment(1, ip="i1")
    keys = {"card": "c1", "device": "d1", "merchant": "m1", "ip": "i1"}
    live = {e.list for e in held if keys[e.entity] == e.key and e.expires_ms > now_ms}
    found = make_lists(held).find(transaction, now_ms)
    expected = "block" if "block" in live else "allow" if "allow" in live else None
    assert (found.list if found is not None else None) == expected


def test_a_transaction_without_device_and_address_matches_no_entry_of_them() -> None:
    lists = make_lists([entry(entity="device", key="d1"), entry(entity="ip", key="i1")])
    assert lists.find(payment(1, device_id=None, ip=None), NOW) is None
    assert lists.find(payment(1), NOW) is not None


def test_counts_are_of_what_is_in_force() -> None:
    lists = make_lists([entry(), entry(key="c2", expires_ms=NOW), entry(list="allow"), entry(expires_ms=NOW + 5)])
    assert (lists.counts(NOW), lists.size) == ({"allow": 1, "block": 2 - 1}, 3)


def test_every_file_of_a_folder_is_read_and_drafts_and_locks_are_not(tmp_path: Path) -> None:
    write(tmp_path / "a.json", entry())
    write(tmp_path / "b.json", entry(key="c2", list="allow"))
    (tmp_path / ".a.json-draft").write_text("{")
    (tmp_path / ".hidden.json").write_text("{")
    (tmp_path / "notes.txt").write_text("x")
    assert read_lists(tmp_path).counts(NOW) == {"allow": 1, "block": 1}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no file of lists"),
        (b"[]", "is no file of lists"),
        (b'{"format": 2, "entries": []}', "has format 2, not 1"),
        (b'{"format": 1, "entries": [{}]}', "is no file of lists"),
        (b"\xff\xfe", "is no file of lists"),
        (b"[" * 100_000, "is no file of lists"),
    ],
)
def test_a_malformed_file_is_refused_with_its_name(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "lists.json"
    path.write_bytes(content)
    with pytest.raises(InvalidList, match=f"lists.json {said}"):
        read_lists(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"key": ""}, "has 0 characters"),
        ({"key": "4111111111111111"}, "looks like a card number"),
        ({"reason": ""}, "reason is not 1 to"),
        ({"reason": "a\nb"}, "reason is not 1 to"),
        ({"added_by": "x" * 201}, "added_by is not 1 to"),
        ({"expires_ms": NOW - 1000}, "is not after added_ms"),
    ],
)
def test_an_entry_that_is_none_is_refused_by_number_without_repeating_a_card(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    path = write(tmp_path / "lists.json", entry(), entry(**changes))
    with pytest.raises(InvalidList, match=f"entry 1: .*{said}") as refused:
        read_lists(path)
    assert "4111111111111111" not in str(refused.value)


def test_an_entity_that_no_transaction_carries_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lists.json"
    path.write_bytes(msgspec.json.encode({"format": 1, "entries": [entry()]}).replace(b'"card"', b'"customer"'))
    with pytest.raises(InvalidList, match="customer"):
        read_lists(path)


class Watched:
    """A reloader and what it handed over."""

    def __init__(self, place: Path) -> None:
        self.taken: list[Lists] = []
        self.metrics = Metrics()
        self.reloader = ListReloader(ListFolder(place), take=self.taken.append, metrics=self.metrics)

    def gauge(self, name: str) -> list[str]:
        return [line for line in self.metrics.render().decode().splitlines() if line.startswith(name)]


def test_a_changed_file_is_taken_and_an_unchanged_one_is_not_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "lists.json", entry(expires_ms=2**50))
    watched = Watched(path)
    for _ in range(3):
        watched.reloader.look()
    assert len(watched.taken) == 1
    write(path, entry(expires_ms=2**50), entry(key="c2", list="allow", expires_ms=2**50))
    watched.reloader.look()
    assert [lists.size for lists in watched.taken] == [1, 2]
    assert watched.gauge("tollgate_list_entries{") == [
        'tollgate_list_entries{list="allow"} 1',
        'tollgate_list_entries{list="block"} 1',
    ]


def test_a_malformed_change_keeps_the_lists_in_force_says_so_and_is_counted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "lists.json", entry(expires_ms=2**50))
    watched = Watched(path)
    watched.reloader.look()
    path.write_bytes(b"{")
    for _ in range(3):
        watched.reloader.look()
    assert len(watched.taken) == 1
    assert watched.metrics.lists_refused.total() == 1
    assert watched.gauge("tollgate_lists_outdated ") == ["tollgate_lists_outdated 1"]
    assert [record.getMessage() for record in caplog.records] == ["lists_refused"]
    path.unlink()
    watched.reloader.look()
    assert (len(watched.taken), watched.metrics.lists_refused.total()) == (1, 2)
    write(path, entry(expires_ms=2**50))
    watched.reloader.look()
    assert len(watched.taken) == 2
    assert watched.gauge("tollgate_lists_outdated ") == ["tollgate_lists_outdated 0"]
