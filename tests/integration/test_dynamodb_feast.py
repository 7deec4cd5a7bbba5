"""Feast over DynamoDB: its command creates the tables, its pushes and batches are guarded, its reads are whole."""

import asyncio
import os
import re
import subprocess
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraud.features import CARD_PROFILE_FEATURES, FEATURE_NAMES, HOME_COUNTRY, MERCHANT_PROFILE_FEATURES, SERVICE
from fraud.transaction import Transaction
from fraud.velocity import newest_time_ms, transaction_change, update
from fraud.windows import ENTITIES, JOIN_KEYS
from infra.publishing import publish
from stores import dynamodb_tables
from stores.dynamodb_layout import encode_time
from stores.dynamodb_reading import TableReader, unanswered
from stores.dynamodb_tables import Tables
from stores.plan import CompiledReader, plan_data, plan_from
from streaming.dynamodb_states import DynamoDBStates
from streaming.states import Held, Swap
from tests.support.emulators import aws_client, aws_environment
from tests.support.lakes import (
    DAY_MS,
    START_MS,
    entity_frame,
    entity_row,
    moment,
    random_payments,
    some_reports,
    write_lake,
)
from tests.support.recoveries import COUNT, KEYS, Recovered, stream_today
from tests.support.tables import empty_velocity_tables, everything, open_tables, start_dynamodb

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
REPO = Path(__file__).parents[2] / "feature_repo"
CONFIG = REPO / "feature_store.dynamodb.yaml"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOW = moment(START_MS)
VIEWS = ("card_profile", "card_velocity", "device_velocity", "ip_velocity", "merchant_profile", "merchant_velocity")


@dataclass(frozen=True)
class World:
    """What the tests share: Feast as the AWS variant configures it, over an emulated S3 and DynamoDB."""

    store: Any
    tables: Tables
    payments: list[Transaction]

    def push(self, state: bytes, revision: int, time: datetime) -> None:
        row = {"card_id": ["c1"], "card_state": [state], "card_revision": [revision], "event_timestamp": [time]}
        self.store.push("card_velocity_push", pd.DataFrame(row))

    def write_age(self, age: int, time: datetime) -> None:
        row: dict[str, Any] = {feature.name: [1.0] for feature in CARD_PROFILE_FEATURES}
        row |= {"card_id": ["c1"], HOME_COUNTRY: ["DE"], "card_age_days": [age]}
        frame = pd.DataFrame(row | {name: [time] for name in ("event_timestamp", "created_timestamp")})
        self.store.write_to_online_store("card_profile", frame)

    def read(self, *features: str, card: str = "c1") -> list[Any]:
        found = self.store.get_online_features(list(features), [{"card_id": card}]).to_dict()
        return [found[feature.split(":")[1]][0] for feature in features]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    lake = tmp_path_factory.mktemp("lake")
    payments = random_payments(20, 300, days=20)
    write_lake(lake, payments, some_reports(payments, 20))
    write_profiles(lake)
    with pytest.MonkeyPatch.context() as patch, start_dynamodb() as endpoint:
        where = {"FRAUD_LAKE": str(lake), "TOLLGATE_AWS_ENDPOINT": endpoint}
        for name, value in (aws_environment() | where).items():
            patch.setenv(name, value)
        patch.setattr(dynamodb_tables, "READ_S", 60.0)  # one request at a time: the others wait
        with aws_client("s3", endpoint) as s3:
            s3.create_bucket(Bucket="tollgate", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
            registry = publish(s3, "tollgate", "registry", applied(tmp_path_factory.mktemp("ci"))).key
        patch.setenv("FRAUD_REGISTRY", f"s3://tollgate/{registry}")
        from feast import FeatureStore

        store = FeatureStore(repo_path=str(REPO), fs_yaml_file=CONFIG)
        with open_tables(endpoint) as tables:
            yield World(store, tables, payments)
        asyncio.run(store._get_provider().online_store.close())


@pytest.fixture(autouse=True)
def empty_tables(world: World) -> None:
    for table, key in everything(world.tables):
        world.tables.client.delete_item(TableName=table, Key={"entity_id": {"S": key}})


def applied(folder: Path) -> Path:
    """Apply with this online store and a registry on disk, which makes the tables; return the registry."""
    made, config = folder / "registry.db", folder / "ci.yaml"
    text = CONFIG.read_text(encoding="utf-8")
    config.write_text(re.sub(r"  registry_store_type: .*\n", "", text).replace("${FRAUD_REGISTRY}", str(made)))
    feast = str(Path(sys.executable).with_name("feast"))
    command = [feast, "-c", str(REPO), "-f", str(config), "apply"]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return made


def write_profiles(lake: Path) -> None:
    """Write profiles of every card and merchant but one at today's start and the day before; some values are null."""
    draw = np.random.default_rng(3)
    for entity, count, features in (("card", 9, CARD_PROFILE_FEATURES), ("merchant", 3, MERCHANT_PROFILE_FEATURES)):
        for day in (0, 1):
            time = pa.array([NOW - timedelta(hours=1, days=day)] * count, pa.timestamp("us", "UTC"))
            columns: dict[str, Any] = {f"{entity}_id": [f"{entity[0]}{number}" for number in range(count)]}
            if entity == "card":
                columns[HOME_COUNTRY] = pa.array(draw.choice(["DE", "FR"], count).tolist())
            for feature in features:
                values = draw.integers(0, 900, count) if feature.whole else draw.random(count) * 1000
                columns[feature.name] = pa.array(values, mask=draw.random(count) < 0.2)
            folder = lake / "profiles" / entity
            folder.mkdir(parents=True, exist_ok=True)
            columns |= {"event_timestamp": time, "created_timestamp": time}
            pq.write_table(pa.table(columns), folder / f"{day}.parquet")


def state_after(count: int) -> bytes:
    state = b""
    for number in range(count):
        state, _ = update("card", state, transaction_change("card", random_payments(7, count)[number]))
    return state


def live_payments(world: World) -> list[Transaction]:
    """Payments to score after the log's end, some of a stranger."""
    out = []
    for number, payment in enumerate(world.payments[-30:]):
        fields = {name: getattr(payment, name) for name in Transaction.__struct_fields__}
        fields |= {"event_time_ms": START_MS + number * 1_000_003, "authorised": None}
        out.append(Transaction(**fields | ({"card_id": "stranger"} if number % 7 == 3 else {})))
    return out


# --- Tables ----------------------------------------------------------------------------------------------------------


def test_apply_creates_a_table_for_each_view_and_leaves_those_that_exist(world: World) -> None:
    names = [f"fraud.{view}" for view in VIEWS]
    assert sorted(world.tables.client.list_tables()["TableNames"]) == names
    world.push(b"seven", 7, NOW)
    world.store._get_provider().online_store.update(
        world.store.config, [], world.store.list_feature_views(), [], [], partial=False
    )
    assert world.read("card_velocity:card_state") == [b"seven"]
    described = world.tables.client.describe_table(TableName=names[0])["Table"]
    assert described["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert described["KeySchema"] == [{"AttributeName": "entity_id", "KeyType": "HASH"}]


def test_dropped_view_loses_its_table_and_dropping_it_twice_is_no_error(world: World) -> None:
    view = world.store.get_feature_view("device_velocity")
    online = world.store._get_provider().online_store
    for _ in range(2):
        online.teardown(world.store.config, [view], [])
        assert "fraud.device_velocity" not in world.tables.client.list_tables()["TableNames"]
    online.update(world.store.config, [], [view], [], [], partial=True)
    assert "fraud.device_velocity" in world.tables.client.list_tables()["TableNames"]


@pytest.mark.parametrize("workers", [0, 65])
def test_number_of_workers_is_bounded(workers: int) -> None:
    from stores.dynamodb_online import GuardedDynamoDBOnlineStoreConfig
    from stores.errors import InvalidStoreConfig

    with pytest.raises(InvalidStoreConfig, match=f"workers: {workers} is not in 1..64"):
        GuardedDynamoDBOnlineStoreConfig(workers=workers)


# --- Older never replaces newer --------------------------------------------------------------------------------------


def test_older_push_never_replaces_a_newer_one(world: World) -> None:
    seen = []
    for age, minutes in ((7, 0), (3, -10), (8, 0), (9, 1)):
        world.write_age(age, NOW + timedelta(minutes=minutes))
        seen += world.read("card_profile:card_age_days")
    assert seen == [7, 7, 8, 9]  # a correction of the same time is taken


def test_materializing_a_day_old_row_never_resets_a_pushed_one(world: World) -> None:
    world.write_age(9, NOW)
    world.store.materialize(EPOCH, NOW, feature_views=["card_profile"])
    assert world.read("card_profile:card_age_days") == [9]
    others = [world.read("card_profile:" + HOME_COUNTRY, card=f"c{number}") for number in range(9)]
    assert sum(home in (["DE"], ["FR"]) for home in others) == 9


def test_state_of_a_smaller_or_equal_revision_is_refused_whatever_its_time(world: World) -> None:
    seen = []
    for revision, days in ((7, 0), (3, 1), (7, 2), (12, 0), (9, 5)):
        world.push(f"state {revision} {days}".encode(), revision, NOW + timedelta(days=days))
        seen += world.read("card_velocity:card_state")
    assert seen == [b"state 7 0", b"state 7 0", b"state 7 0", b"state 12 0", b"state 12 0"]


def test_yesterdays_batch_never_resets_todays_states(world: World) -> None:
    world.store.materialize(EPOCH, NOW)
    today = everything(world.tables)
    world.store.materialize(EPOCH, NOW - timedelta(days=1))
    world.store.materialize(EPOCH, NOW)
    assert everything(world.tables) == today
    assert len(today) > 20


def test_reader_during_a_materialize_sees_no_failing_read_and_no_older_state(world: World) -> None:
    world.push(b"of the stream", 500, NOW)
    cards = [{"card_id": f"c{number}"} for number in range(10)]
    stop, seen, failed = threading.Event(), list[list[int]](), list[Exception]()

    def watch() -> None:
        while not stop.is_set():
            try:
                found = world.store.get_online_features(["card_velocity:card_revision"], cards).to_dict()
            except Exception as error:  # noqa: BLE001 - every failing read is counted, whatever it is
                failed.append(error)
            else:
                seen.append([revision or 0 for revision in found["card_revision"]])

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        passed = []
        for days in (12, 6, 0):
            before = len(seen)
            world.store.materialize(EPOCH, NOW - timedelta(days=days))
            passed.append(len(seen) - before)
        stop.set()
        watching.result()
    assert failed == []
    assert min(passed) > 0, "nobody read while it was written"
    assert all(after >= before for some, later in pairwise(seen) for before, after in zip(some, later, strict=True))
    assert {row[1] for row in seen} == {500}
    assert sum(after > before for before, after in zip(seen[0], seen[-1], strict=True)) == len(cards) - 1


def test_history_that_comes_after_todays_stream_is_joined_to_it(world: World) -> None:
    known = [report.known_ms for report in some_reports(world.payments, 20)]
    today_ms = max(world.payments[-1].event_time_ms, *known) + DAY_MS
    states = DynamoDBStates(world.tables, project="fraud")
    world.store.materialize(EPOCH, NOW)
    in_order = stream_today(states, today_ms)
    empty_velocity_tables(world.tables)
    first = stream_today(states, today_ms)
    assert all(held.revision == COUNT < in_order[key].revision - COUNT for key, held in first.items())
    world.store.materialize(EPOCH, NOW)
    found = Recovered(today_ms, in_order, dict(zip(KEYS, states.read(KEYS), strict=True)))
    found.check()
    assert found.repeated() == found.joined
    before = everything(world.tables)
    world.store.materialize(EPOCH, NOW)
    assert everything(world.tables) == before


def test_of_several_rows_of_a_key_in_one_batch_the_newest_stays(world: World) -> None:
    days = [0, 3, 1, 3, 2]
    row: dict[str, Any] = {feature.name: [1.0] * len(days) for feature in CARD_PROFILE_FEATURES}
    row |= {"card_id": ["c1"] * len(days), HOME_COUNTRY: ["DE"] * len(days), "card_age_days": list(range(len(days)))}
    times = [NOW + timedelta(days=day) for day in days]
    world.store.write_to_online_store(
        "card_profile", pd.DataFrame(row | {"event_timestamp": times, "created_timestamp": times})
    )
    assert world.read("card_profile:card_age_days") == [3]
    frame = pd.DataFrame(
        {
            "card_id": ["c1"] * 3,
            "card_state": [b"one", b"three", b"two"],
            "card_revision": [1, 3, 2],
            "event_timestamp": [NOW, NOW, NOW],
        }
    )
    world.store.push("card_velocity_push", frame)
    assert world.read("card_velocity:card_state") == [b"three"]


def test_state_without_its_revision_is_refused(world: World) -> None:
    from stores.errors import InvalidStoreConfig

    frame = pd.DataFrame(
        {"card_id": ["c1"], "card_state": [b"x"], "card_revision": pd.array([None], "Int64"), "event_timestamp": [NOW]}
    )
    with pytest.raises(InvalidStoreConfig, match="card_revision"):
        world.store.push("card_velocity_push", frame)
    assert everything(world.tables) == {}


def test_stream_and_push_guard_each_other(world: World) -> None:
    states = DynamoDBStates(world.tables, project="fraud")
    two, three = state_after(2), state_after(3)
    world.push(two, 2, NOW)
    (held,) = states.read([("card", "c1")])
    assert (held.state, held.revision) == (two, 2)
    assert states.swap([Swap(("card", "c1"), Held(b"", 0, b""), b"", 1)]) == [False]
    assert states.swap([Swap(("card", "c1"), held, three, 3)]) == [True]
    world.push(two, 2, NOW + timedelta(days=1))
    assert world.read("card_velocity:card_state", "card_velocity:card_revision") == [three, 3]
    ((_, stored),) = everything(world.tables).items()
    assert stored["event_ts"]["S"] == encode_time(newest_time_ms("card", three) * 1000)


# --- Reads -----------------------------------------------------------------------------------------------------------


def test_online_equals_offline(world: World) -> None:
    world.store.materialize(EPOCH, NOW)
    payments, service = live_payments(world), world.store.get_feature_service(SERVICE)
    online = world.store.get_online_features(service, [entity_row(payment) for payment in payments]).to_df()
    offline = world.store.get_historical_features(entity_frame(payments), service).to_df()
    for name in FEATURE_NAMES:
        one, two = (frame[name].to_numpy(np.float64, na_value=np.nan) for frame in (online, offline))
        assert np.array_equal(one, two, equal_nan=True), name
    assert online["card_transaction_count_30d"].sum() > 0
    again = asyncio.run(world.store.get_online_features_async(service, [entity_row(payment) for payment in payments]))
    pd.testing.assert_frame_equal(again.to_df(), online)


def read_compiled(world: World, reader: TableReader, keys: dict[str, str]) -> dict[str, Any]:
    """Return every stored feature of one question, read by the plan alone."""
    request, responses = reader.request(keys), []
    while request:
        responses.append(world.tables.client.batch_get_item(RequestItems=request))
        request = unanswered(responses[-1])
    assert len(responses) == 1
    found = reader.readings(responses)
    return {name: value for reading in found.values() for name, value in reading.values.items()}  # noqa: PD011


def features_of(world: World) -> list[str]:
    velocity = [f"{entity}_velocity:{entity}_{part}" for entity in ENTITIES for part in ("state", "revision")]
    card = [HOME_COUNTRY, *(feature.name for feature in CARD_PROFILE_FEATURES)]
    merchant = [feature.name for feature in MERCHANT_PROFILE_FEATURES]
    return velocity + [f"card_profile:{name}" for name in card] + [f"merchant_profile:{name}" for name in merchant]


def rows_of(payments: Sequence[Transaction]) -> list[dict[str, str]]:
    return [{name: getattr(one, name) or "" for name in JOIN_KEYS.values()} for one in payments]


def test_compiled_reading_equals_feasts(world: World) -> None:
    from stores.compiling import compile_plan

    world.store.materialize(EPOCH, NOW)
    keys = rows_of(live_payments(world))
    reader = TableReader(plan_from(plan_data(compile_plan(world.store, SERVICE))))
    found = world.store.get_online_features(features_of(world), keys).to_dict()
    for place, row in enumerate(keys):
        read = read_compiled(world, reader, row)
        assert read == {name: found[name][place] for name in read}
        assert len(read) == len(features_of(world))
    assert None in found["card_state"]
    assert any(found["card_state"])


def test_scorers_own_reading_equals_feasts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    import uvloop

    from serving import signed_http
    from serving.dynamodb_store import DynamoDBStore
    from serving.metrics import Metrics
    from serving.signed_http import SignedEndpoint
    from stores.compiling import compile_plan
    from stores.credentials import Renewed, find_credentials

    monkeypatch.setattr(signed_http, "KEPT", 0)  # this server answers one connection at a time
    world.store.materialize(EPOCH, NOW)
    keys = rows_of(live_payments(world))
    reader = CompiledReader(plan_from(plan_data(compile_plan(world.store, SERVICE))))
    credentials = Renewed(lambda: find_credentials(os.environ))
    endpoint = SignedEndpoint("dynamodb", "eu-west-1", os.environ["TOLLGATE_AWS_ENDPOINT"], credentials)

    async def scene() -> list[list[Any]]:
        store = DynamoDBStore(endpoint, Metrics(), timeout_ms=60_000)
        await store.start()
        try:
            return [await store.fetch(reader, row) for row in keys]
        finally:
            await store.close()

    found = world.store.get_online_features(features_of(world), keys).to_dict()
    for place, replies in enumerate(uvloop.run(scene())):
        readings = reader.readings(replies).values()
        read = {name: value for reading in readings for name, value in reading.values.items()}  # noqa: PD011
        assert read == {name: found[name][place] for name in read}
        assert len(read) == len(features_of(world))
        assert {view for reading in readings for view in reading.times_ms} == set(VIEWS)


def test_one_request_reads_all_views(world: World) -> None:
    online = world.store._get_provider().online_store
    client = online._connected(world.store.config).client
    asked: list[list[str]] = []
    client.meta.events.register(
        "provide-client-params.dynamodb.BatchGetItem", lambda params, **_: asked.append(sorted(params["RequestItems"]))
    )
    world.store.get_online_features(features_of(world), rows_of(live_payments(world)[:1])).to_dict()
    assert asked == [[f"fraud.{view}" for view in VIEWS]]


def test_feasts_own_store_reads_what_ours_wrote(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its import asks for an asynchronous library that pins an old botocore; reading in threads never touches it."""
    names = ("aiobotocore", "aiobotocore.config", "aiobotocore.session")
    absent: list[Any] = [types.ModuleType(name) for name in names]
    for name, module in zip(names, absent, strict=True):
        monkeypatch.setitem(sys.modules, name, module)
    absent[0].session, absent[1].AioConfig = absent[2], object
    from feast import FeatureStore
    from feast.infra.online_stores.dynamodb import DynamoDBOnlineStore

    world.store.materialize(EPOCH, NOW)
    (held,) = DynamoDBStates(world.tables, project="fraud").read([("card", "c1")])
    newer, _ = update("card", held.state, transaction_change("card", random_payments(9, 1)[0]))
    swap = Swap(("card", "c1"), held, newer, held.revision + 1)
    assert DynamoDBStates(world.tables, project="fraud").swap([swap]) == [True]
    keys = rows_of(live_payments(world))
    ours = world.store.get_online_features(features_of(world), keys).to_dict()
    text = CONFIG.read_text(encoding="utf-8").replace("stores.dynamodb_online.GuardedDynamoDBOnlineStore", "dynamodb")
    text = text.replace("${TOLLGATE_REGION:-eu-west-1}", "eu-west-1")
    path = tmp_path / "feature_store.yaml"
    path.write_text(text.replace("${TOLLGATE_AWS_ENDPOINT:-}", os.environ["TOLLGATE_AWS_ENDPOINT"]), encoding="utf-8")
    stock = FeatureStore(repo_path=str(REPO), fs_yaml_file=path)
    assert type(stock._get_provider().online_store) is DynamoDBOnlineStore
    assert stock.get_online_features(features_of(world), keys).to_dict() == ours
    assert newer in ours["card_state"]
