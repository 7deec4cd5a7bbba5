import hiredis
import pytest
from redis.crc import key_slot

from stores.plan import CompiledReader
from stores.slots import Address, Moved, read_map, read_moved, slot_of
from tests.support.bundles import read_plan

ASKED = Address("10.0.0.1", 6379)


@pytest.mark.parametrize(
    "key", [b"", b"123456789", b"{a}b", b"x{}y", b"x{}{a}", b"{", b"}{a", b"{{a}}", b"a{b", b"\x01{\x00}\xff"]
)
def test_slot_is_the_one_redis_py_works_out(key: bytes) -> None:
    assert slot_of(key) == key_slot(key)


def test_slots_of_feasts_own_keys_are_those_of_redis_py_and_spread() -> None:
    reader = CompiledReader(read_plan())
    keys = [
        key
        for number in range(500)
        for key, _ in reader.packed(dict.fromkeys(("card_id", "device_id", "ip", "merchant_id"), f"e{{{number}}}"))
    ]
    assert [slot_of(key) for key in keys] == [key_slot(key) for key in keys]
    cards = ({"card_id": f"c{number}", "device_id": "", "ip": "", "merchant_id": ""} for number in range(2000))
    untagged = [reader.packed(keys)[0][0] for keys in cards]
    thirds = [slot_of(key) * 3 // 16384 for key in untagged]
    assert all(500 < thirds.count(third) < 850 for third in range(3))


def test_map_names_the_primary_of_each_slot_by_host_name_where_one_is_told() -> None:
    found = read_map(
        [
            [0, 1, [b"10.0.0.2", 6380, b"id", []], [b"10.0.0.9", 1, b"copy"]],
            [3, 3, [b"10.0.0.3", 6381, b"id", [b"hostname", b"node-3.cache"]]],
            [4, 4, [b"", 6382, b"id"]],
            [5, 5, [None, 6383, b"id"]],
        ],
        ASKED,
    )
    assert found == {
        0: Address("10.0.0.2", 6380),
        1: Address("10.0.0.2", 6380),
        3: Address("node-3.cache", 6381),
        4: Address("10.0.0.1", 6382),
        5: Address("10.0.0.1", 6383),
    }


@pytest.mark.parametrize("reply", [hiredis.ReplyError("ERR no cluster"), 7, [7], [[0, 1]]])
def test_what_is_no_map_is_told(reply: object) -> None:
    with pytest.raises(ValueError, match="no map of slots"):
        read_map(reply, ASKED)


def test_a_moved_key_is_told_apart_from_every_other_reply() -> None:
    assert read_moved(hiredis.ReplyError("MOVED 7 h:1"), ASKED) == Moved(7, Address("h", 1), from_now_on=True)
    assert read_moved(hiredis.ReplyError("ASK 7 ::1:6379"), ASKED) == Moved(7, Address("::1", 6379), from_now_on=False)
    others: tuple[object, ...] = (b"MOVED 7 h:1", None, hiredis.ReplyError("CLUSTERDOWN"))
    for reply in (*others, hiredis.ReplyError("MOVED x h:1")):
        assert read_moved(reply, ASKED) is None
