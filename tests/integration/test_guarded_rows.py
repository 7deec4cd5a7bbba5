"""Many rows by one script are guarded as each alone, on a real Valkey."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fraud.errors import StateConflict
from fraud.states import unpack_ring
from fraud.transaction import Transaction
from fraud.velocity import transaction_change, update
from stores.guards import RAISE_STATE, RAISE_TIME, StateView, state_fields, state_view
from stores.joining import ATTEMPTS, Counted, counted, join_rows
from stores.layout import encode_moment, encode_value
from stores.scripts import ROWS_A_SCRIPT, SCRIPTS_A_TURN, GuardedRows, write_rows
from tests.support.emulators import start_valkey, valkey_client
from tests.support.payments import START, payment

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
        row = (guard, encode_moment(number), encode_value(None if number % 3 else "x"))
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


@pytest.mark.parametrize("count", [3, ROWS_A_SCRIPT + 3, ROWS_A_SCRIPT * SCRIPTS_A_TURN + 70])
def test_neither_of_two_states_replaces_the_other_when_each_is_ahead_in_its_way(client: Any, count: int) -> None:
    def row(number: int, revision: int, moment: int) -> Row:
        return b"k%d" % number, (encode_value(revision), encode_moment(moment), b"")

    rows = [row(number, 5, 9_000_000) for number in range(count)]
    assert write_rows(client, RAISE_STATE, guarded(rows), 0) == []
    before = stored(client)
    ahead = [number for number in range(count) if number % 3 == 1 or number == count - 1]
    others = {number: row(number, 5 if number % 3 else 4, 9_500_000) for number in range(count)}
    again = [row(number, 40, 8_999_999) if number in ahead else others[number] for number in range(count)]
    assert write_rows(client, RAISE_STATE, guarded(again), 0) == ahead
    assert stored(client) == before
    assert write_rows(client, RAISE_STATE, guarded([row(0, 40, 9_000_000)]), 0) == []
    assert client.hget(b"k0", b"guard") == encode_value(40)


class Meddling:
    """A real client; somebody else writes between a read and a write, a few times."""

    def __init__(self, client: Any, meddle: Callable[[], object]) -> None:
        self._client, self._meddle = client, meddle

    def hmget(self, key: bytes, fields: list[bytes]) -> Any:
        held = self._client.hmget(key, fields)
        self._meddle()
        return held

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


@pytest.mark.parametrize("writers", [0, 1, ATTEMPTS - 1, ATTEMPTS])
def test_states_are_joined_over_what_other_writers_left(client: Any, writers: int) -> None:
    view, key = state_view("card"), b"k1"
    left = [payment(number, time_ms=START + 1_000 + number) for number in range(writers)]
    batch = _state([payment(number + 500, time_ms=START + number) for number in range(20)])

    def meddle() -> None:
        if left:
            state, revision = client.hmget(key, [view.state, view.revision])
            held = counted(state, revision)
            grown, took = update("card", held.state, transaction_change("card", left.pop()))
            client.hset(key, mapping=_mapping(view, grown, held.revision + took))

    client.hset(key, mapping=_mapping(view, _state([payment(900, time_ms=START + 500)]), 1))
    rows = [(key, Counted(batch, 20))]
    if writers == ATTEMPTS:
        with pytest.raises(StateConflict):
            join_rows(Meddling(client, meddle), "card", view, rows, 0)
        assert counted(*client.hmget(key, [view.state, view.revision])).revision == 1 + writers
        return
    join_rows(Meddling(client, meddle), "card", view, rows, 100)
    found = counted(*client.hmget(key, [view.state, view.revision]))
    assert (len(unpack_ring(found.state)), found.revision) == (21 + writers, 21 + writers)
    assert 0 < client.ttl(key) <= 100


def test_state_that_cannot_be_joined_stays_and_is_told(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    view, key = state_view("card"), b"k1"
    client.hset(key, mapping=_mapping(view, b"torn", 1))
    join_rows(client, "card", view, [(key, Counted(_state([payment(1)]), 20))], 0)
    assert client.hmget(key, [view.state, view.revision]) == [encode_value(b"torn"), encode_value(1)]
    assert "a card state newer than its batch was kept" in caplog.text


def _state(some: list[Transaction]) -> bytes:
    state = b""
    for item in some:
        state, _ = update("card", state, transaction_change("card", item))
    return state


def _mapping(view: StateView, state: bytes, revision: int) -> dict[bytes, bytes]:
    fields = state_fields(view, state, revision, START)
    return dict(zip(fields[::2], fields[1::2], strict=True))


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
