"""Write-through: the scorer's own transaction in the states, and the stream that brings it again."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import redis

from fraud import velocity
from fraud.ring import DECLINED
from fraud.states import unpack_ring
from fraud.transaction import Transaction
from fraud.velocity import transaction_change, transaction_changes, update
from fraud.windows import ENTITIES, JOIN_KEYS, Entity
from stores.access import Access
from stores.cluster_wires import open_wires
from stores.guards import state_fields, state_view
from stores.layout import decode_value, encode_value, entity_key
from streaming.applied import ChangeLog
from streaming.batches import Collaborators, apply_batch
from streaming.deadletters import DeadLetterFolder
from streaming.folders import DiskFolder
from streaming.offline import TransactionLog
from streaming.states import RedisStates
from tests.support.bundles import PROJECT, write_test_bundle
from tests.support.emulators import start_valkey, valkey_client
from tests.support.payments import arrivals
from tests.support.scorers import Scorer, await_true, fill_states, history, payment, start_scorer

Store: TypeAlias = "redis.Redis[bytes]"


@pytest.fixture
def client() -> Iterator[Store]:
    with start_valkey() as port, valkey_client(port) as client:
        fill_states(client, history())
        yield client


@pytest.fixture
def scorer(client: Store, tmp_path: Path) -> Iterator[Scorer]:
    model = write_test_bundle(tmp_path / "model")
    log = tmp_path / "decisions"
    settings = {"write_through": 1, "decision_log": log, "store_timeout_ms": 5_000}
    with start_scorer(model, port_of(client), **settings) as scorer:
        yield scorer


def port_of(client: Store) -> int:
    return int(client.connection_pool.connection_kwargs["port"])


def held(client: Store, entity: Entity, transaction: Transaction) -> tuple[bytes, int]:
    name = entity_key(JOIN_KEYS[entity], velocity.entity_key(entity, transaction) or "", PROJECT)
    view = state_view(entity)
    pipe: Any = client.pipeline(transaction=False)
    pipe.execute_command("HMGET", name, view.state, view.revision)
    state, revision = (decode_value(data) for data in pipe.execute()[0])
    assert isinstance(state, bytes)
    assert isinstance(revision, int)
    return state, revision


def results(scorer: Scorer) -> dict[str, int]:
    _, text = scorer.request("GET", "/metrics")
    lines = [line for line in text.decode().splitlines() if line.startswith("tollgate_write_through_total{")]
    return {line.split('"')[1]: int(line.rpartition(" ")[2]) for line in lines}


def written(scorer: Scorer, count: int) -> None:
    await_true(lambda: sum(results(scorer).values()) == count)


def test_all_but_the_merchant_hold_the_transaction_at_once(scorer: Scorer, client: Store) -> None:
    paid = payment(3)
    before = {entity: held(client, entity, paid) for entity in ENTITIES}
    scorer.decide(paid)
    written(scorer, 3)
    for entity in ("card", "device", "ip"):
        state, revision = before[entity]
        assert held(client, entity, paid) == (update(entity, state, transaction_change(entity, paid))[0], revision + 1)
    assert held(client, "merchant", paid) == before["merchant"]
    assert results(scorer) == {"written": 3}


def test_the_next_transaction_of_the_card_sees_it_without_a_stream(scorer: Scorer, client: Store) -> None:
    for number in range(1, 6):
        scorer.decide(payment(1, transaction_id=f"burst{number}", event_time_ms=payment(1).event_time_ms + number))
        written(scorer, 3 * number)
    state, _ = held(client, "card", payment(1))
    assert len(unpack_ring(state)) == len(history()) // 20 + 5


def test_the_streams_redelivery_changes_nothing_but_a_decline(scorer: Scorer, client: Store) -> None:
    paid = payment(5)
    scorer.decide(paid)
    written(scorer, 3)
    state, _ = held(client, "card", paid)
    assert update("card", state, transaction_change("card", paid)) == (state, 0)
    declined = payment(5, authorised=False)
    flagged, changed = update("card", state, transaction_change("card", declined))
    assert changed == 1
    entries, again = unpack_ring(state), unpack_ring(flagged)
    assert again[-1]["flags"] == entries[-1]["flags"] | DECLINED
    for name in (entries.dtype.names or ())[:-2]:
        assert (entries[name] == again[name]).all()
    # and the state is the one that the stream alone would have made
    alone = [entry for entry in history() if entry.card_id == paid.card_id]
    expected = b""
    for entry in [*alone, declined]:
        expected, _ = update("card", expected, transaction_change("card", entry))
    assert flagged == expected


def test_the_worker_finds_what_was_written_through_and_adds_only_the_merchant(
    scorer: Scorer, client: Store, tmp_path: Path
) -> None:
    paid = [payment(2, transaction_id=f"burst{n}", event_time_ms=payment(2).event_time_ms + n) for n in range(4)]
    for number, one in enumerate(paid, 1):
        scorer.decide(one)
        written(scorer, 3 * number)
    before = {entity: held(client, entity, paid[0]) for entity in ENTITIES}
    folder = DiskFolder(tmp_path / "stream")
    log = ChangeLog(folder)
    states = RedisStates(open_wires(Access("127.0.0.1", port_of(client)), 5.0), project=PROJECT)
    worker = Collaborators(states, DeadLetterFolder(folder), log, TransactionLog(folder), lambda: 0, "EUR")
    for _ in range(2):  # delivered twice, too
        result = apply_batch(arrivals([*reversed(paid), *paid]), worker)
        assert (result.failed, result.dead_lettered, result.conflicts) == (None, 0, 0)
    after = {entity: held(client, entity, paid[0]) for entity in ENTITIES}
    assert {entity: after[entity] for entity in ("card", "device", "ip")} == {
        entity: before[entity] for entity in ("card", "device", "ip")
    }
    expected, changed = update("merchant", before["merchant"][0], transaction_changes(paid)["merchant"])
    assert (after["merchant"], changed) == ((expected, before["merchant"][1] + 4), 4)
    assert log.flush() == 4  # the merchant's; the scorer has told of the others


def test_a_repeated_request_writes_nothing_a_second_time(scorer: Scorer, client: Store) -> None:
    paid = payment(7)
    scorer.decide(paid)
    written(scorer, 3)
    before = held(client, "card", paid)
    scorer.decide(paid)
    written(scorer, 6)
    assert results(scorer) == {"written": 3, "repeat": 3}
    assert held(client, "card", paid) == before


def test_payment_from_the_future_is_not_written_ahead_of_the_stream(client: Store) -> None:
    from fraud.features import NO_PROFILES
    from serving.metrics import Metrics
    from serving.online import Online
    from serving.writing import WriteThrough

    now_ms = time.time_ns() // 1_000_000
    online = Online(dict.fromkeys(ENTITIES, b""), NO_PROFILES, (), (), (), dict.fromkeys(ENTITIES, b""), {})
    metrics = Metrics()
    writer = WriteThrough(Access("127.0.0.1", port_of(client)), project=PROJECT, metrics=metrics, directory=None)
    writer.start()
    writer.offer(payment(9, card_id="c-ahead", event_time_ms=now_ms + 40 * 86_400_000), online)
    writer.offer(payment(9, card_id="c-now", device_id="d-now", ip="i-now", event_time_ms=now_ms), online)
    writer.close()
    assert metrics.write_through.values == {("ahead",): 3, ("written",): 3}
    assert not client.exists(entity_key("card_id", "c-ahead", PROJECT))


def test_another_writer_that_came_first_wins_and_the_change_is_dropped(client: Store) -> None:
    from fraud.features import NO_PROFILES
    from serving.metrics import Metrics
    from serving.online import Online
    from serving.writing import WriteThrough

    paid = payment(9)
    states = {entity: held(client, entity, paid) for entity in ENTITIES}
    stored = {entity: encode_value(revision) for entity, (_, revision) in states.items()}
    online = Online({e: state for e, (state, _) in states.items()}, NO_PROFILES, (), (), (), stored, {})
    name = entity_key("card_id", paid.card_id, PROJECT)
    newer = payment(9, transaction_id="other", event_time_ms=paid.event_time_ms - 1)
    state, _ = update("card", states["card"][0], transaction_change("card", newer))
    pipe: Any = client.pipeline(transaction=False)
    fields = state_fields(state_view("card"), state, states["card"][1] + 1, newer.event_time_ms)
    pipe.execute_command("HSET", name, *fields)
    pipe.execute()
    metrics = Metrics()
    writer = WriteThrough(Access("127.0.0.1", port_of(client)), project=PROJECT, metrics=metrics, directory=None)
    writer.start()
    writer.offer(paid, online)
    writer.close()
    assert metrics.write_through.values == {("conflict",): 1, ("written",): 2}
    assert held(client, "card", paid) == (state, states["card"][1] + 1)


def test_what_was_written_is_told_with_the_revision_it_made(scorer: Scorer, client: Store, tmp_path: Path) -> None:
    paid = payment(11)
    scorer.decide(paid)
    written(scorer, 3)
    revisions = {entity: held(client, entity, paid)[1] for entity in ("card", "device", "ip")}
    assert scorer.stop() == 0
    (part,) = (tmp_path / "written").glob("part-*.jsonl")
    told = [json.loads(line) for line in part.read_bytes().splitlines()]
    keys = {"card": paid.card_id, "device": paid.device_id, "ip": paid.ip}
    assert told == [
        {
            "entity": entity,
            "key": keys[entity],
            "revision_after": revisions[entity],
            "transaction_id": paid.transaction_id,
            "kind": "transaction",
            "event_time_ms": paid.event_time_ms,
        }
        for entity in ("card", "device", "ip")
    ]


def test_a_credential_that_may_not_write_costs_no_answer(client: Store, tmp_path: Path) -> None:
    client.acl_setuser("default", enabled=True, nopass=True, commands=["-@all", "+hmget", "+ping", "+acl"], keys=["*"])
    model = write_test_bundle(tmp_path / "model")
    with start_scorer(model, port_of(client), write_through=1, store_timeout_ms=5_000) as scorer:
        answer = scorer.decide(payment(13))
        assert answer["degraded"] is False
        await_true(lambda: results(scorer) == {"failed": 3})
        assert scorer.decide(payment(14))["degraded"] is False


def test_without_the_setting_nothing_is_written(client: Store, tmp_path: Path) -> None:
    model = write_test_bundle(tmp_path / "model")
    with start_scorer(model, port_of(client), store_timeout_ms=5_000) as scorer:
        before = held(client, "card", payment(15))
        scorer.decide(payment(15))
        assert results(scorer) == {}
        assert scorer.stop() == 0
    assert held(client, "card", payment(15)) == before
