"""Many rows by one script are guarded as each alone, on a real Valkey."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from stores.guards import RAISE_STATE, RAISE_TIME
from stores.layout import encode_moment, encode_value
from stores.scripts import ROWS_A_SCRIPT, SCRIPTS_A_TURN, GuardedRows, write_rows
from tests.support.emulators import start_valkey, valkey_client

FIELDS = (b"guard", b"one", b"two")
Row = tuple[bytes, tuple[bytes, ...]]


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with start_valkey() as port, valkey_client(port) as connected:
        yield connected


@pytest.fixture(autouse=True)
def _empty(client: Any) -> None:
    client.flushall()


def some_rows(script: str, seed: int, count: int) -> tuple[list[Row], dict[bytes, dict[bytes, bytes]]]:
    """Rows of few keys in no order of time, and what is left when each is compared for itself."""
    draw = random.Random(seed)
    rows: list[Row] = []
    newest: dict[bytes, int] = {}
    left: dict[bytes, dict[bytes, bytes]] = {}
    for number in range(count):
        key = b"k%d" % draw.randrange(40)
        moment = draw.choice([0, 1, 127, 128, 999_999, 1_000_000, draw.randrange(2**50)])
        guard = encode_moment(moment) if script == RAISE_TIME else encode_value(moment)
        row = (guard, encode_value(number), encode_value(None if number % 3 else "x"))
        rows.append((key, row))
        held = newest.get(key, -1)
        if moment > held or (moment == held and script == RAISE_TIME):
            newest[key] = moment
            left[key] = dict(zip(FIELDS, row, strict=True))
    return rows, left


def guarded(rows: list[Row]) -> GuardedRows:
    return GuardedRows(FIELDS, [key for key, _ in rows], [values for _, values in rows])


def stored(client: Any) -> dict[bytes, dict[bytes, bytes]]:
    return {key: client.hgetall(key) for key in sorted(client.keys())}


@pytest.mark.parametrize("script", [RAISE_TIME, RAISE_STATE], ids=["time", "state"])
@pytest.mark.parametrize("count", [1, ROWS_A_SCRIPT, ROWS_A_SCRIPT + 1, ROWS_A_SCRIPT * SCRIPTS_A_TURN + 70])
def test_of_many_rows_of_a_key_the_newest_stays(client: Any, script: str, count: int) -> None:
    rows, left = some_rows(script, count, count)
    write_rows(client, script, guarded(rows), 0)
    assert stored(client) == left
    assert {client.ttl(key) for key in left} == {-1}
    write_rows(client, script, guarded(rows[:-1]), 0)
    assert {key: row[b"guard"] for key, row in stored(client).items()} == {k: row[b"guard"] for k, row in left.items()}


def test_a_lifetime_is_renewed_by_rows_that_are_taken(client: Any) -> None:
    def row(key: bytes, moment: int) -> Row:
        return key, (encode_moment(moment), b"", b"")

    write_rows(client, RAISE_TIME, guarded([row(b"a", 5_000_000), row(b"b", 5_000_000)]), 1_000)
    write_rows(client, RAISE_TIME, guarded([row(b"a", 6_000_000), row(b"b", 4_000_000)]), 9_000)
    assert client.ttl(b"a") > 8_000
    assert 0 < client.ttl(b"b") <= 1_000


def test_fields_of_other_views_stay(client: Any) -> None:
    client.hset(b"k1", b"other", b"kept")
    write_rows(client, RAISE_TIME, guarded([(b"k1", (encode_moment(7), b"v", b""))]), 0)
    assert client.hgetall(b"k1") == {b"other": b"kept", b"guard": encode_moment(7), b"one": b"v", b"two": b""}
