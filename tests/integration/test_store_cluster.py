"""A real three-node cluster: scorer, stream and Feast read and write by slot, also while slots move and nodes go."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import uvloop

from fraud.errors import StoreUnavailable
from fraud.settings import Secret, Settings
from fraud.transaction import Transaction
from serving.metrics import Metrics
from serving.redis_cluster import RedisClusterStore
from stores.access import redis_access
from stores.layout import decode_value, entity_key
from stores.plan import CompiledReader
from stores.slots import slot_of
from streaming.states import Held, Key, RedisStates, Swap, connect
from tests.support.acl import add_users
from tests.support.bundles import PROJECT, read_plan, write_test_bundle
from tests.support.clusters import Cluster, start_cluster
from tests.support.emulators import start_valkey, valkey_client
from tests.support.scorers import await_true, payment, start_scorer
from tests.support.tls import issue

NAMES = [f"c{number}" for number in range(60)]
READER = CompiledReader(read_plan())


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with start_cluster() as cluster:
        yield cluster


@pytest.fixture
def states(cluster: Cluster) -> Iterator[RedisStates]:
    for client in cluster.clients:
        client.flushall()
    states = RedisStates(connect(settings_of(cluster)), project=PROJECT)
    yield states
    states.close()


def settings_of(cluster: Cluster) -> Settings:
    return Settings(redis_port=cluster.ports[0], redis_cluster=True, store_timeout_ms=5_000)


def slot_of_card(name: str) -> int:
    return slot_of(entity_key("card_id", name, PROJECT))


def fill(states: RedisStates, names: list[str]) -> dict[str, bytes]:
    """Write a state of its own for each card; return them."""
    keys: list[Key] = [("card", name) for name in names]
    made = {name: state_for(name) for name in names}
    swaps = [
        Swap(key, held, made[key[1]], held.revision + 1) for key, held in zip(keys, states.read(keys), strict=True)
    ]
    assert states.swap(swaps) == [True] * len(swaps)
    return made


def state_for(name: str) -> bytes:
    from fraud.velocity import transaction_change, update

    return update("card", b"", transaction_change("card", payment(7, card_id=name)))[0]


def keys_for(name: str) -> dict[str, str]:
    return {"card_id": name, "device_id": f"d-{name}", "merchant_id": f"m-{name}", "ip": f"i-{name}"}


def entities_of(paid: Transaction) -> int:
    """Return of how many entities of a payment the scorer writes the state."""
    return sum(key is not None for key in (paid.card_id, paid.device_id, paid.ip))


def card_states(replies: list[Any]) -> Any:
    place = next(i for i, f in enumerate(READER.plan.entities[0].fields) if f.feature == "card_state")
    return decode_value(replies[0][place])


def run(cluster: Cluster, scene: Any, settings: Settings | None = None) -> Metrics:
    """Run a scene with the scorer's store on the cluster; return what was counted."""
    chosen, metrics = settings or settings_of(cluster), Metrics()

    async def whole() -> None:
        store = RedisClusterStore(redis_access(chosen), metrics, timeout_ms=chosen.store_timeout_ms)
        await store.start()
        try:
            await scene(store)
        finally:
            await store.close()

    uvloop.run(whole())
    return metrics


def test_stream_writes_each_state_to_its_node_and_reads_it_back(cluster: Cluster, states: RedisStates) -> None:
    made = fill(states, NAMES)
    held = [len(client.keys("*")) for client in cluster.clients]
    assert sum(held) == len(NAMES)
    assert min(held) > 5
    found = states.read([("card", name) for name in [*NAMES, "nobody"]])
    assert [each.state for each in found] == [*made.values(), b""]
    stale = Swap(("card", NAMES[0]), Held(b"", 0, b""), b"", 9)
    good = Swap(("card", NAMES[1]), found[1], made[NAMES[1]], 2)
    assert states.swap([stale, good]) == [False, True]


def test_a_cluster_holds_what_a_single_node_holds(cluster: Cluster, states: RedisStates) -> None:
    fill(states, NAMES)
    with start_valkey() as port, valkey_client(port) as client:
        single = RedisStates(connect(Settings(redis_port=port)), project=PROJECT)
        fill(single, NAMES)
        single.close()
        raw: Any = client
        assert cluster.everything() == {key: raw.hgetall(key) for key in raw.keys("*")}


def test_scorer_reads_every_entity_in_one_round_trip_to_each_node(cluster: Cluster, states: RedisStates) -> None:
    made = fill(states, NAMES)

    def commands() -> list[int]:
        return [client.info("commandstats").get("cmdstat_hmget", {"calls": 0})["calls"] for client in cluster.clients]

    async def scene(store: RedisClusterStore) -> None:
        before = commands()
        replies = await asyncio.gather(*(store.fetch(READER, keys_for(name)) for name in NAMES))
        assert [card_states(reply) for reply in replies] == [made[name] for name in NAMES]
        assert all(set(part) == {None} for reply in replies for part in reply[1:])  # the others were never seen
        assert sum(commands()) - sum(before) == len(READER.plan.entities) * len(NAMES)

    metrics = run(cluster, scene)
    assert metrics.store_redirects.total() == 0
    assert b'tollgate_store_breaker{node="127.0.0.1:' in metrics.render()


def test_reads_follow_a_slot_that_moves_and_lose_nothing(cluster: Cluster, states: RedisStates) -> None:
    name = NAMES[0]
    slot = slot_of_card(name)
    source = cluster.owner(slot)
    target = (source + 1) % 3
    made = fill(states, [name])

    async def scene(store: RedisClusterStore) -> None:
        async def reads(count: int = 20) -> None:
            for reply in await asyncio.gather(*(store.fetch(READER, keys_for(name)) for _ in range(count))):
                assert card_states(reply) == made[name]

        await reads()
        cluster.begin_move(slot, source, target)
        await reads()
        assert cluster.move_keys(slot, source, target) == 1
        await reads(5)
        assert metrics_of(store).store_redirects.values == {("ask",): 5}
        cluster.end_move(slot, target)
        await reads(5)
        assert metrics_of(store).store_redirects.values[("moved",)] >= 1
        before = metrics_of(store).store_redirects.total()
        await reads()
        assert metrics_of(store).store_redirects.total() == before

    def metrics_of(store: RedisClusterStore) -> Metrics:
        return store._metrics

    run(cluster, scene)
    assert states.read([("card", name)])[0].state == made[name]  # its map was of before


def test_stream_writes_follow_a_slot_that_moves(cluster: Cluster, states: RedisStates) -> None:
    name = NAMES[1]
    slot = slot_of_card(name)
    source = cluster.owner(slot)
    target = (source + 1) % 3
    made = fill(states, [name])

    def write(revision: int) -> None:
        (held,) = states.read([("card", name)])
        assert held.revision == revision - 1
        assert states.swap([Swap(("card", name), held, made[name], revision)]) == [True]

    write(2)
    cluster.begin_move(slot, source, target)
    write(3)
    cluster.move_keys(slot, source, target)
    write(4)
    cluster.end_move(slot, target)
    write(5)
    (only,) = [key for key, _ in cluster.everything().items()]
    assert only == entity_key("card_id", name, PROJECT)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::RuntimeWarning")
def test_feasts_store_guards_its_writes_on_a_cluster_while_slots_move(
    cluster: Cluster, states: RedisStates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.feast_rows import read_state, repo_config, write_state

    monkeypatch.setenv("TOLLGATE_REDIS_PORT", str(cluster.ports[0]))
    monkeypatch.setenv("TOLLGATE_REDIS_CLUSTER", "true")
    config, now = repo_config(tmp_path), datetime(2026, 1, 1, tzinfo=UTC)
    rows = {name: (f"state of {name}".encode(), 5) for name in NAMES}
    write_state(config, rows, now)
    assert read_state(config, NAMES) == list(rows.values())
    assert [(held.state, held.revision) for held in states.read([("card", name) for name in NAMES])] == list(
        rows.values()
    )
    slot = slot_of_card(NAMES[2])
    source = cluster.owner(slot)
    target = (source + 1) % 3
    cluster.begin_move(slot, source, target)
    cluster.move_keys(slot, source, target)
    newer = {name: (state, 4 if number % 2 else 6) for number, (name, (state, _)) in enumerate(rows.items())}
    write_state(config, newer, now)
    cluster.end_move(slot, target)
    expected = [(rows[name][0], max(5, revision)) for name, (_, revision) in newer.items()]
    assert read_state(config, NAMES) == expected


def test_scorer_loses_only_the_entities_of_a_lost_node_and_speaks_tls_to_all(tmp_path: Path) -> None:
    files = issue(tmp_path / "tls", "127.0.0.1")
    with start_cluster(tls=files) as cluster:
        for client in cluster.clients:
            add_users(client, default_password="root")
        secure = replace(settings_of(cluster), redis_tls=True, redis_ca_file=str(files.ca), store_timeout_ms=2_000)
        writer = replace(secure, redis_username="writer", redis_password=Secret("write"))
        reader = replace(secure, redis_username="scorer", redis_password=Secret("read"))
        states = RedisStates(connect(writer), project=PROJECT)
        made = fill(states, NAMES)
        states.close()
        lost = cluster.owner(slot_of_card(NAMES[0]))
        there = [name for name in NAMES if cluster.owner(slot_of_card(name)) == lost]

        async def scene(store: RedisClusterStore) -> None:
            for name in NAMES[:10]:
                assert card_states(await store.fetch(READER, keys_for(name))) == made[name]
            cluster.servers[lost].stop()
            for _ in range(3):
                for name in NAMES:
                    replies = await store.fetch(READER, keys_for(name))
                    if name in there:
                        assert isinstance(replies[0], StoreUnavailable)
                    else:
                        assert card_states(replies) == made[name]

        run(cluster, scene, reader)


def test_scorer_process_serves_from_a_cluster_and_writes_through(
    cluster: Cluster, states: RedisStates, tmp_path: Path
) -> None:
    fill(states, [f"c{number}" for number in range(20)])
    model = write_test_bundle(tmp_path / "model")
    settings = {"redis_cluster": "true", "store_timeout_ms": 5_000, "write_through": 1}
    with start_scorer(model, cluster.ports[1], **settings) as scorer:
        wanted = sum(entities_of(payment(number)) for number in range(20))
        for number in range(20):
            assert not scorer.decide(payment(number))["degraded"]
        await_true(lambda: scorer.metric("tollgate_write_through_total") == wanted)
        assert scorer.metric("tollgate_store_redirects_total") == 0
        assert states.read([("card", "c3")])[0].revision == 2


def test_without_any_node_reads_are_refused_at_once_and_come_back(tmp_path: Path) -> None:
    metrics = Metrics()

    async def scene() -> None:
        settings = Settings(redis_port=9, redis_cluster=True)
        store = RedisClusterStore(redis_access(settings), metrics, timeout_ms=30)
        await store.start()
        for _ in range(100):
            with pytest.raises(StoreUnavailable):
                await store.fetch(READER, keys_for("c1"))
        await store.close()

    uvloop.run(scene())
    assert (metrics.store_refusals.total(), metrics.store_timeouts.total()) == (100, 0)
