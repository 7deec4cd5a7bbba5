"""The definitions and both stores, as a user of Feast meets them: applied by its command, used by a plain script."""

import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from fraud.features import (
    CARD_PROFILE_FEATURES,
    FEATURE_NAMES,
    HOME_COUNTRY,
    MERCHANT_PROFILE_FEATURES,
    SERVICE,
    Profiles,
    evaluate,
)
from fraud.ring import new_scratch
from fraud.settings import Settings
from fraud.transaction import Transaction
from fraud.velocity import entity_key, newest_time_ms, transaction_change, update
from fraud.windows import ENTITIES, JOIN_KEYS
from stores.plan import CompiledReader, ReadPlan, plan_data, plan_from
from streaming.states import RedisStates, Swap, connect
from tests.support.emulators import start_valkey, valkey_client
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

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
REPO = Path(__file__).parents[2] / "feature_repo"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOW = moment(START_MS)


@dataclass(frozen=True)
class World:
    """What the tests share: Feast over a lake on disk and a real Valkey."""

    lake: Path
    port: int
    store: Any
    payments: list[Transaction]

    @property
    def service(self) -> Any:
        return self.store.get_feature_service(SERVICE)

    def materialize(self, until: datetime = NOW, since: datetime = EPOCH) -> None:
        self.store.materialize(since, until)

    def online(self, payments: Sequence[Transaction]) -> pd.DataFrame:
        rows = [entity_row(payment) for payment in payments]
        frame: pd.DataFrame = self.store.get_online_features(self.service, rows).to_df()
        return frame

    def history(self, payments: Sequence[Transaction], **options: Any) -> pd.DataFrame:
        frame: pd.DataFrame = self.store.get_historical_features(
            entity_frame(payments), self.service, **options
        ).to_df()
        return frame


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("feast")
    payments = random_payments(20, 500)
    write_lake(folder / "lake", payments, some_reports(payments, 20))
    write_profiles(folder / "lake")
    with start_valkey() as port:
        text = (REPO / "feature_store.yaml").read_text(encoding="utf-8")
        text = text.replace("../build/demo/registry.db", str(folder / "registry.db"))
        text = text.replace("${TOLLGATE_REDIS_PORT:-6379}", str(port))
        (folder / "feature_store.yaml").write_text(text, encoding="utf-8")
        apply(folder / "feature_store.yaml", folder / "lake")
        yield World(folder / "lake", port, open_store(folder / "feature_store.yaml"), payments)


@pytest.fixture(autouse=True)
def empty_online_store(world: World) -> None:
    with valkey_client(world.port) as client:
        client.flushall()


def apply(config: Path, lake: Path) -> None:
    command = [str(Path(sys.executable).with_name("feast")), "-c", str(REPO), "-f", str(config), "apply"]
    done = subprocess.run(
        command, env={**os.environ, "FRAUD_LAKE": str(lake)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def open_store(config: Path) -> Any:
    from feast import FeatureStore

    return FeatureStore(repo_path=str(REPO), fs_yaml_file=config)


def write_profiles(lake: Path) -> None:
    """Write a profile of every card and merchant but one at each of the last days' ends; some values are null."""
    draw = np.random.default_rng(3)
    for entity, count in (("card", 9), ("merchant", 3)):
        names = CARD_PROFILE_FEATURES if entity == "card" else MERCHANT_PROFILE_FEATURES
        for day in range(40):
            end = moment(START_MS // DAY_MS * DAY_MS - day * DAY_MS)
            columns: dict[str, Any] = {f"{entity}_id": [f"{entity[0]}{number}" for number in range(count)]}
            if entity == "card":
                columns[HOME_COUNTRY] = pa.array(draw.choice(["DE", "FR"], count).tolist())
            for feature in names:
                values = draw.integers(0, 900, count) if feature.whole else draw.random(count) * 1000
                columns[feature.name] = pa.array(values, mask=draw.random(count) < 0.1)
            columns |= {name: pa.array([end] * count, pa.timestamp("us", "UTC")) for name in TIMES}
            folder = lake / "profiles" / entity
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table(columns), folder / f"{day}.parquet")


TIMES = ("event_timestamp", "created_timestamp")


def live_payments(seed: int, count: int) -> list[Transaction]:
    """Payments to score after the log's end: at once, hours and days later; some of strangers."""
    late = [0, 1, 59_999, 60_000, 3_600_000, 86_400_000, 7 * DAY_MS + 1, 20 * DAY_MS, 31 * DAY_MS]
    out = []
    for number, payment in enumerate(random_payments(seed, count)):
        fields = {name: getattr(payment, name) for name in Transaction.__struct_fields__}
        fields |= {"event_time_ms": START_MS + late[number % len(late)], "authorised": None}
        if number % 10 == 3:
            fields |= {"card_id": "stranger", "merchant_id": "m3"}
        out.append(Transaction(**fields))
    return out


def assert_equal_features(left: pd.DataFrame, right: pd.DataFrame) -> None:
    """Every model feature of every row equal to the last bit; null and NaN are one."""
    assert len(left) == len(right) > 0
    for name in FEATURE_NAMES:
        one, two = (frame[name].to_numpy(np.float64, na_value=math.nan) for frame in (left, right))
        same = (one == two) | (np.isnan(one) & np.isnan(two))
        assert same.all(), (name, one[~same][:3], two[~same][:3])


def read_compiled(world: World, plan: ReadPlan, payment: Transaction) -> dict[str, Any]:
    """Return one payment's feature vector read by the plan, with neither Feast nor its registry."""
    reader = CompiledReader(plan)
    keys = {name: getattr(payment, name) or "" for name in JOIN_KEYS.values()}
    with valkey_client(world.port) as client, client.pipeline(transaction=False) as pipe:
        for command in reader.commands(keys):
            pipe.execute_command(*command)  # type: ignore[no-untyped-call]
        found = reader.readings(pipe.execute())

    read = {entity: reading.values for entity, reading in found.items()}  # noqa: PD011 - a reading is no data frame

    def number(value: object) -> float:
        return float(value) if isinstance(value, int | float) else math.nan

    home = read["card"][HOME_COUNTRY]
    assert home is None or isinstance(home, str)
    profiles = Profiles(
        home,
        tuple(number(read["card"][feature.name]) for feature in CARD_PROFILE_FEATURES),
        tuple(number(read["merchant"][feature.name]) for feature in MERCHANT_PROFILE_FEATURES),
    )
    states: dict[Any, bytes] = {}
    for entity in ENTITIES:
        state = read[entity][f"{entity}_state"]
        states[entity] = state if isinstance(state, bytes) else b""
    vector = evaluate(payment, states, profiles, new_scratch())
    return dict(zip(FEATURE_NAMES, vector.tolist(), strict=True))


# --- What is registered ----------------------------------------------------------------------------------------------


def test_feast_imports_one_file_and_registers_everything(world: World) -> None:
    from feast.repo_operations import get_repo_files

    assert [path.name for path in get_repo_files(REPO)] == ["definitions.py"]
    store = world.store
    assert {view.name for view in store.list_feature_views()} == {
        "card_profile",
        "card_velocity",
        "device_velocity",
        "ip_velocity",
        "merchant_profile",
        "merchant_velocity",
    }
    assert {view.name for view in store.list_on_demand_feature_views()} == {"context", "velocity"}
    assert {entity.join_key for entity in store.list_entities()} >= {"card_id", "device_id", "ip", "merchant_id"}
    assert [service.name for service in store.list_feature_services()] == [SERVICE]
    assert all(not view.singleton for view in store.list_on_demand_feature_views())


def test_the_service_offers_every_model_feature_once(world: World) -> None:
    from stores.compiling import compile_plan

    plan = compile_plan(world.store, SERVICE)
    assert sorted(plan.features) == sorted(FEATURE_NAMES)


def test_one_setting_chooses_between_two_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    from fraud.errors import InvalidSetting
    from stores.opening import environment_file, open_feature_store

    assert environment_file(REPO, "local").read_bytes() == (REPO / "feature_store.yaml").read_bytes()
    with pytest.raises(InvalidSetting, match="'moon'"):
        environment_file(REPO, "moon")
    monkeypatch.setenv("FRAUD_REGISTRY", "s3://nowhere/registry.db")
    assert open_feature_store(REPO, "local").config.registry.path == "../build/demo/registry.db"
    assert (REPO / "feature_store.yaml").readlink() == Path("feature_store.local.yaml")
    texts = [(REPO / f"feature_store.{name}.yaml").read_text(encoding="utf-8") for name in ("local", "aws")]
    for text in texts:
        assert "type: stores.offline_store.AsOfOfflineStore" in text
        assert "type: stores.online_store.GuardedRedisOnlineStore" in text


def test_feast_s_own_command_takes_the_environment_that_its_variable_names() -> None:
    command = [str(Path(sys.executable).with_name("feast")), "-c", "feature_repo", "configuration"]
    environ = {**os.environ, "FRAUD_REGISTRY": "s3://nowhere/registry.db"}
    chosen = {"FEAST_FS_YAML_FILE_PATH": "feature_repo/feature_store.aws.yaml"}
    for more, provider in (({}, "local"), (chosen, "aws")):
        done = subprocess.run(command, cwd=REPO.parent, env=environ | more, capture_output=True, text=True, check=True)
        assert f"provider: {provider}" in done.stdout


# --- Online equals offline -------------------------------------------------------------------------------------------


def test_materialized_states_answer_online_what_the_log_answers_offline(world: World) -> None:
    world.materialize()
    payments = live_payments(21, 90)
    assert_equal_features(world.history(payments), world.online(payments))


def test_the_compiled_plan_reads_what_feast_reads(world: World) -> None:
    from stores.compiling import compile_plan

    world.materialize()
    plan = plan_from(plan_data(compile_plan(world.store, SERVICE)))
    payments = live_payments(22, 40)
    compiled = pd.DataFrame([read_compiled(world, plan, payment) for payment in payments])
    assert_equal_features(compiled, world.online(payments))


def test_a_quiet_card_counts_fall_to_zero_online_without_any_write(world: World) -> None:
    world.materialize()
    busy, quiet = (with_time(world.payments[-1], START_MS + later) for later in (0, 31 * DAY_MS))
    frame = world.online([busy, quiet])
    counts = [name for name in FEATURE_NAMES if name.startswith("card_transaction_count_")]
    assert frame["card_transaction_count_30d"].tolist()[0] > 0
    assert [frame[name].tolist()[1] for name in counts] == [0] * len(counts)


def with_time(payment: Transaction, time_ms: int) -> Transaction:
    fields = {name: getattr(payment, name) for name in Transaction.__struct_fields__}
    return Transaction(**fields | {"event_time_ms": time_ms})


# --- History ---------------------------------------------------------------------------------------------------------


def test_every_row_comes_back_in_order_with_its_own_values(world: World) -> None:
    first = world.payments[0]
    asked = [world.payments[300], first, world.payments[100], world.payments[300], with_time(first, 1_700_000_000_000)]
    frame = world.history(asked)
    assert frame["card_id"].tolist() == [payment.card_id for payment in asked]
    assert frame["event_time_ms"].tolist() == [payment.event_time_ms for payment in asked]
    for row, payment in enumerate(asked):
        alone = world.history([payment])
        assert_equal_features(frame.iloc[[row]], alone)
    assert frame["card_transaction_count_30d"].tolist()[4] == 0  # before there was any history


def test_full_names_carry_their_view(world: World) -> None:
    asked = world.payments[200:205]
    short, full = world.history(asked), world.history(asked, full_feature_names=True)
    service = world.service
    names = {f.name: f"{view.name}__{f.name}" for view in service.feature_view_projections for f in view.features}
    assert set(names) == set(FEATURE_NAMES)
    assert_equal_features(short, full.rename(columns={long: name for name, long in names.items()}))
    assert not set(FEATURE_NAMES) & set(full.columns)


def test_a_frame_without_rows_has_every_column(world: World) -> None:
    frame = world.store.get_historical_features(entity_frame(world.payments[:1]).iloc[:0], world.service).to_df()
    assert len(frame) == 0
    assert set(FEATURE_NAMES) <= set(frame.columns)


def test_profiles_are_those_of_the_last_day_before(world: World) -> None:
    asked = [with_time(world.payments[0], START_MS // DAY_MS * DAY_MS - 5 * DAY_MS + offset) for offset in (-1, 0, 1)]
    frame = world.history([*asked])
    days = [pq.read_table(world.lake / "profiles" / "card" / f"{day}.parquet").to_pandas() for day in (6, 5, 5)]
    expected = [day.set_index("card_id").loc[asked[0].card_id, "card_age_days"] for day in days]
    assert frame["card_age_days"].fillna(-1).tolist() == pd.Series(expected).fillna(-1).tolist()


def test_a_state_asked_for_is_the_one_the_stream_would_hold(world: World) -> None:
    asked = world.payments[400]
    refs = ["card_velocity:card_state", "card_velocity:card_revision"]
    frame = world.store.get_historical_features(entity_frame([asked]), refs).to_df()
    state = b""
    past = [p for p in world.payments if p.card_id == asked.card_id and p.event_time_ms < asked.event_time_ms]
    for payment in past:
        state, _ = update("card", state, transaction_change("card", payment))
    reports = some_reports(world.payments, 20)
    own = {p.transaction_id for p in past}
    known = [r for r in reports if r.transaction_id in own and r.known_ms < asked.event_time_ms]
    assert frame["card_revision"].tolist() == [len(past) + len(known)]
    if not known:
        assert frame["card_state"].tolist() == [state]


def test_contradictions_and_nulls_are_refused_by_name(world: World) -> None:
    from stores.errors import InvalidEntityFrame, UnsupportedRequest

    frame = entity_frame(world.payments[:3])
    for broken, word in (
        (frame.assign(event_time_ms=frame["event_time_ms"] + [0, 1, 0]), "row 1: event_time_ms"),
        (frame.assign(card_id=pd.Series(["c1", None, "c2"])), "'card_id' holds 1 nulls"),
        (frame.drop(columns="merchant_id"), "no column 'merchant_id'"),
        (frame.assign(event_timestamp=pd.to_datetime(pd.Series([NOW, None, NOW]))), "'event_timestamp' holds 1 nulls"),
        (frame.assign(amount_minor=["1", "12.50", "3"]), "'amount_minor' holds '12.50' in row 1, which is no int64"),
        (frame.assign(amount_minor=[1.0, 2.0, 3.5]), "'amount_minor' holds 3.5 in row 2, which is no int64"),
        (frame.assign(latitude=["x", "1", "2"]), "'latitude' holds 'x' in row 0, which is no double"),
        (
            frame.assign(amount_minor=pd.array([1, None, 3], "Int64")),
            "'amount_minor' holds 1 nulls, the first in row 1; every payment has an amount, in minor units",
        ),
    ):
        with pytest.raises(InvalidEntityFrame, match=word):
            world.store.get_historical_features(broken, world.service).to_df()
    with pytest.raises(UnsupportedRequest, match="pandas DataFrame"):
        world.store.get_historical_features("SELECT 1", ["card_profile:card_age_days"])


def test_a_saved_dataset_reads_back_and_is_not_overwritten(world: World, tmp_path: Path) -> None:
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

    from stores.errors import UnsupportedRequest

    job = world.store.get_historical_features(
        entity_frame(world.payments[:20])[["card_id", "event_timestamp"]], ["card_profile:card_age_days"]
    )
    storage = SavedDatasetFileStorage(str(tmp_path / "saved.parquet"))
    job.persist(storage)
    assert pq.read_table(tmp_path / "saved.parquet").equals(job.to_arrow())
    with pytest.raises(UnsupportedRequest, match="exists"):
        job.persist(storage)
    job.persist(storage, allow_overwrite=True)


# --- Ordinary views, joined ------------------------------------------------------------------------------------------


def joined_profile(tmp_path: Path, *, ttl: timedelta, tags: dict[str, str], lag_ms: int | None = None) -> list[Any]:
    """Return what questions 1 us before, at, and after noon and the ttl's end see of two cards' rows."""
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import Int64, String

    from stores.as_known import AsKnown
    from stores.files import Location
    from stores.view_join import Rows, join_view

    noon = 1_770_000_000_000_000
    hour = 3_600_000_000
    rows = [("a", noon, noon, 1), ("a", noon, noon + 2 * hour, 2), ("a", noon - hour, noon, 3), ("b", noon, noon, 4)]
    columns = list(zip(*rows, strict=True))
    table = {"card_id": list(columns[0]), "seen": pa.array(columns[3], pa.int32())}
    for name, place in (("event_timestamp", 1), ("created_timestamp", 2)):
        table[name] = pa.array(columns[place], pa.int64()).cast(pa.timestamp("us", "UTC"))
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    source = FileSource(
        path=str(tmp_path / "rows.parquet"),
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
    )
    view = FeatureView(
        name="seen_rows",
        entities=[Entity(name="card", join_keys=["card_id"], value_type=ValueType.STRING)],
        schema=[Field(name="card_id", dtype=String), Field(name="seen", dtype=Int64)],
        source=source,
        ttl=ttl,
        tags=tags,
    )
    view.entity_columns = [Field(name="card_id", dtype=String)]
    asked = [("a", -1), ("a", 0), ("a", 1), ("a", hour), ("a", hour + 1), ("b", -1), ("b", 0), ("x", 0), ("", 0)]
    times = np.array([noon + offset for _, offset in asked], np.int64)
    frame = Rows(pa.table({"card_id": [key for key, _ in asked]}), times)
    known = None if lag_ms is None else AsKnown(lag_ms)
    found = join_view(frame, view, ["seen"], Location(str(tmp_path / "rows.parquet")), as_known=known)["seen"]
    assert found.type == pa.int64()  # as declared, though the file has 32 bits
    values: list[Any] = found.to_pylist()
    return values


def test_a_row_lives_from_its_time_to_its_ttl_both_inclusive(tmp_path: Path) -> None:
    found = joined_profile(tmp_path, ttl=timedelta(hours=1), tags={})
    assert found == [3, 2, 2, 2, None, None, 4, None, None]


def test_a_strict_view_hides_a_row_from_its_own_time(tmp_path: Path) -> None:
    found = joined_profile(tmp_path, ttl=timedelta(0), tags={"pit": "strict"})
    assert found == [3, 3, 2, 2, 2, None, None, None, None]


def test_as_known_a_correction_is_not_seen_before_it_arrived(tmp_path: Path) -> None:
    found = joined_profile(tmp_path, ttl=timedelta(0), tags={}, lag_ms=0)
    assert found == [None, 1, 1, 1, 1, None, 4, None, None]


def test_as_known_a_row_waits_for_its_arrival_and_the_lag(tmp_path: Path) -> None:
    hour_ms = 3_600_000
    assert joined_profile(tmp_path, ttl=timedelta(0), tags={}, lag_ms=hour_ms)[2:5] == [None, 1, 1]
    assert joined_profile(tmp_path, ttl=timedelta(0), tags={"pit": "strict"}, lag_ms=0)[:4] == [None, 3, 1, 1]


def test_as_known_is_asked_for_by_flag_block_and_configuration_alike(world: World) -> None:
    from stores.as_known import AsKnown, asking_as_known

    asked = world.payments[200:400]
    plain, flagged = world.history(asked), world.history(asked, filter_by_created_timestamp=True)
    assert_equal_features(plain, flagged)  # every row of this log arrived when it happened
    with asking_as_known(AsKnown(lag_ms=30 * DAY_MS)):
        lagged = world.history(asked)
    assert (lagged["card_transaction_count_24h"] == 0).all()  # nothing of the last day was known
    assert (plain["card_transaction_count_24h"] > 0).any()
    profiled = lagged["card_age_days"].fillna(-1).tolist()
    assert profiled != plain["card_age_days"].fillna(-1).tolist()
    config = world.lake.parent / "as_known.yaml"
    own = (world.lake.parent / "feature_store.yaml").read_text(encoding="utf-8")
    line = "  type: stores.offline_store.AsOfOfflineStore\n"
    assert line in own
    config.write_text(own.replace(line, f"{line}  as_known: true\n  lag_ms: {30 * DAY_MS}\n"), encoding="utf-8")
    configured_world = replace(world, store=open_store(config))
    configured = configured_world.history(asked)
    with asking_as_known(None):
        again = configured_world.history(asked)
    assert_equal_features(configured, lagged)
    assert_equal_features(again, plain)


# --- Writes ----------------------------------------------------------------------------------------------------------


def stored(world: World) -> dict[bytes, dict[bytes, bytes]]:
    with valkey_client(world.port) as client:
        return {key: client.hgetall(key) for key in sorted(client.keys())}


def test_yesterdays_batch_never_resets_todays_state(world: World) -> None:
    world.materialize(NOW)
    today = stored(world)
    world.materialize(NOW - timedelta(days=1))
    assert stored(world) == today
    assert len(today) > 15


def test_history_that_comes_after_todays_stream_is_joined_to_it(world: World) -> None:
    known = [report.known_ms for report in some_reports(world.payments, 20)]
    today_ms = max(world.payments[-1].event_time_ms, *known) + DAY_MS
    states = RedisStates(connect(Settings(redis_port=world.port)), project="fraud")
    world.materialize(NOW)
    in_order = stream_today(states, today_ms)
    with valkey_client(world.port) as client:
        client.flushall()
    first = stream_today(states, today_ms)
    assert all(held.revision == COUNT < in_order[key].revision - COUNT for key, held in first.items())
    world.materialize(NOW)
    found = Recovered(today_ms, in_order, dict(zip(KEYS, states.read(KEYS), strict=True)))
    found.check()
    assert found.repeated() == found.joined
    before = stored(world)
    world.materialize(NOW)
    assert stored(world) == before
    states.close()


def test_materializing_twice_changes_nothing_and_today_replaces_yesterday(world: World) -> None:
    world.materialize(NOW - timedelta(days=10))
    older = stored(world)
    world.materialize(NOW)
    newer = stored(world)
    assert newer != older
    world.materialize(NOW)
    assert stored(world) == newer


def test_materializing_shows_how_far_it_is(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.store.materialize(EPOCH, NOW, feature_views=["card_velocity"])
    cards = len(stored(world))
    assert f"{cards}/{cards}" in capsys.readouterr().err


def test_a_killed_run_is_finished_by_starting_it_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from stores.encoded_columns import EncodedColumns
    from stores.online_store import GuardedRedisOnlineStore

    world.materialize()
    whole = stored(world)
    with valkey_client(world.port) as client:
        client.flushall()
    write, batches = GuardedRedisOnlineStore.online_write_columns, []

    def dying(self: Any, config: Any, table: Any, columns: EncodedColumns) -> None:
        half = slice(len(columns.keys) // 2)
        some = {name: column[half] for name, column in columns.features.items()}
        write(self, config, table, EncodedColumns(columns.keys[half], columns.times[half], some))
        batches.append(len(columns.keys))
        raise KeyboardInterrupt

    monkeypatch.setattr(GuardedRedisOnlineStore, "online_write_columns", dying)
    with pytest.raises(KeyboardInterrupt):
        world.store.materialize(EPOCH, NOW, feature_views=["card_velocity"])
    monkeypatch.undo()
    assert 0 < len(stored(world)) < batches[0]
    world.materialize()
    assert stored(world) == whole


def test_reads_find_the_old_or_the_new_values_while_a_run_writes(world: World) -> None:
    from stores.compiling import compile_plan

    plan = plan_from(plan_data(compile_plan(world.store, SERVICE)))
    last = world.payments[-1]
    asked = with_time(last, last.event_time_ms + 1)

    def count() -> Any:
        return read_compiled(world, plan, asked)["card_transaction_count_30d"]

    world.materialize(moment(last.event_time_ms - 1))
    before = count()
    seen: list[Any] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(count())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        world.materialize()
    finally:
        done.set()
        reader.join()
    after = count()
    assert before != after
    assert before is not None
    assert set(seen) <= {before, after}  # never missing,
    assert seen == sorted(seen, key=[before, after].index)  # never older than what was read before
    assert len(seen) > 1


def test_only_entities_that_changed_since_the_start_are_materialized(world: World) -> None:
    known = {report.transaction_id: report.known_ms for report in some_reports(world.payments, 20)}
    newest: dict[str, int] = {}
    for payment in world.payments:
        last = max(payment.event_time_ms, known.get(payment.transaction_id, 0))
        newest[payment.card_id] = max(newest.get(payment.card_id, 0), last)
    middle = sorted(newest.values())[len(newest) // 2]
    world.store.materialize(moment(middle), NOW, feature_views=["card_velocity"])
    assert len(stored(world)) == sum(last >= middle for last in newest.values()) < len(newest)


def test_a_pushed_state_is_read_at_once_and_a_smaller_revision_refused(world: World) -> None:
    payment = with_time(world.payments[-1], START_MS)
    one, _ = update("card", b"", transaction_change("card", payment))
    two, _ = update("card", one, transaction_change("card", renamed(payment, START_MS - 5)))
    asked = with_time(payment, START_MS + 10)
    counts = []
    for state, revision in ((one, 1), (two, 2), (one, 1)):
        frame = pd.DataFrame(
            {
                "card_id": [payment.card_id],
                "card_state": [state],
                "card_revision": [revision],
                "event_timestamp": [NOW],  # a late payment changes a state without a newer time
            }
        )
        world.store.push("card_velocity_push", frame)
        counts.append(world.online([asked])["card_transaction_count_1m"].tolist()[0])
    assert counts == [1, 2, 2]


def test_the_stream_writes_the_very_rows_that_a_push_writes(world: World) -> None:
    payment = with_time(replace_missing(world.payments[-1]), START_MS)
    states = RedisStates(connect(Settings(redis_port=world.port)), project="fraud")
    for entity in ENTITIES:
        name = entity_key(entity, payment)
        assert name is not None
        state, _ = update(entity, b"", transaction_change(entity, payment))
        frame = pd.DataFrame(
            {
                JOIN_KEYS[entity]: [name],
                f"{entity}_state": [state],
                f"{entity}_revision": [1],
                "event_timestamp": [moment(newest_time_ms(entity, state))],
            }
        )
        world.store.push(f"{entity}_velocity_push", frame)
        pushed = everything(world)
        assert len(pushed) == 1
        with valkey_client(world.port) as client:
            client.flushall()
        key = (entity, name)
        assert states.swap([Swap(key, states.read([key])[0], state, 1)]) == [True]
        assert everything(world) == pushed
        with valkey_client(world.port) as client:
            client.flushall()
    states.close()


def replace_missing(payment: Transaction) -> Transaction:
    return msgspec.structs.replace(payment, device_id="d1", ip="i1")


def everything(world: World) -> dict[bytes, dict[bytes, bytes]]:
    with valkey_client(world.port) as client:
        return {key: client.hgetall(key) for key in client.scan_iter()}


def renamed(payment: Transaction, time_ms: int) -> Transaction:
    fields = {name: getattr(payment, name) for name in Transaction.__struct_fields__}
    return Transaction(**fields | {"transaction_id": "another", "event_time_ms": time_ms})


def test_an_older_profile_is_refused_and_a_correction_of_the_same_time_is_not(world: World) -> None:
    asked = [with_time(world.payments[0], START_MS)]
    ages = []
    for age, days in ((5, 0), (4, 1), (6, 0), (7, -1)):
        row: dict[str, Any] = {feature.name: [1.0] for feature in CARD_PROFILE_FEATURES}
        row |= {"card_id": [asked[0].card_id], HOME_COUNTRY: ["DE"], "card_age_days": [age]}
        frame = pd.DataFrame(row | {name: [NOW - timedelta(days=days)] for name in TIMES})
        world.store.write_to_online_store("card_profile", frame)
        ages.append(world.online(asked)["card_age_days"].tolist()[0])
    assert ages == [5, 5, 6, 7]


def test_a_state_without_its_revision_is_refused(world: World) -> None:
    from stores.errors import InvalidStoreConfig

    frame = pd.DataFrame(
        {"card_id": ["c1"], "card_state": [b"x"], "card_revision": pd.array([None], "Int64"), "event_timestamp": [NOW]}
    )
    with pytest.raises(InvalidStoreConfig, match="card_revision"):
        world.store.push("card_velocity_push", frame)
    assert stored(world) == {}


def test_rows_pushed_offline_are_appended_and_states_are_not_taken(world: World) -> None:
    from stores.errors import UnsupportedRequest

    folder = world.lake / "profiles" / "card"
    before = {path: path.read_bytes() for path in folder.iterdir()}
    later = NOW + timedelta(days=30)
    row: dict[str, Any] = {feature.name: [1.0] for feature in CARD_PROFILE_FEATURES}
    row |= {"card_id": ["c1"], HOME_COUNTRY: ["GB"], "card_age_days": [77]}
    world.store.write_to_offline_store("card_profile", pd.DataFrame(row | {name: [later] for name in TIMES}))
    assert {path: path.read_bytes() for path in before} == before
    asked = pd.DataFrame({"card_id": ["c1"] * 2, "event_timestamp": [later, later - timedelta(microseconds=1)]})
    found = world.store.get_historical_features(asked, ["card_profile:card_age_days"]).to_df()
    assert found["card_age_days"].tolist()[0] == 77
    assert found["card_age_days"].tolist()[1] != 77
    view = world.store.get_feature_view("card_velocity")
    with pytest.raises(UnsupportedRequest, match="transaction log"):
        world.store._get_provider().offline_write_batch(world.store.config, view, pa.table({"a": [1]}), None)


def test_logged_features_are_appended(world: World, tmp_path: Path) -> None:
    from feast.feature_logging import FeatureServiceLoggingSource, LoggingConfig
    from feast.infra.offline_stores.file_source import FileLoggingDestination

    from stores.offline_store import AsOfOfflineStore

    store, write = world.store, AsOfOfflineStore.write_logged_features
    where = LoggingConfig(destination=FileLoggingDestination(path=str(tmp_path / "log"), partition_by=["day"]))
    for day in ("monday", "tuesday", "monday"):
        table = pa.table({"score": [0.5], "day": [day]})
        source = FeatureServiceLoggingSource(world.service, store.project)
        write(store.config, table, source, where, store.registry)
    found = pq.read_table(tmp_path / "log").to_pandas()
    assert sorted(found["day"].astype(str)) == ["monday", "monday", "tuesday"]


def test_what_takes_the_guards_away_is_refused() -> None:
    from stores.errors import InvalidStoreConfig
    from stores.online_store import GuardedRedisOnlineStoreConfig, expand_variables

    with pytest.raises(InvalidStoreConfig):
        GuardedRedisOnlineStoreConfig(skip_dedup=True)
    with pytest.raises(InvalidStoreConfig, match="NOWHERE"):
        expand_variables("${NOWHERE}:6379", {})


def test_lifetime_of_keys_is_one_that_the_stream_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    from stores.errors import InvalidStoreConfig
    from stores.online_store import GuardedRedisOnlineStoreConfig

    assert GuardedRedisOnlineStoreConfig().key_ttl_seconds is None
    with pytest.raises(InvalidStoreConfig, match="TOLLGATE_REDIS_KEY_TTL_S"):
        GuardedRedisOnlineStoreConfig(key_ttl_seconds=2_678_400)
    monkeypatch.setenv("TOLLGATE_REDIS_KEY_TTL_S", "2678400")
    assert GuardedRedisOnlineStoreConfig().key_ttl_seconds == 2_678_400
    assert GuardedRedisOnlineStoreConfig(key_ttl_seconds=2_678_400).key_ttl_seconds == 2_678_400


def test_a_connection_gives_up_and_never_repeats_a_command(world: World) -> None:
    client = world.store._get_provider().online_store._get_client(world.store.config.online_store)
    assert isinstance(client, redis.Redis)
    options = client.connection_pool.connection_kwargs
    assert (options["socket_timeout"], options["socket_connect_timeout"], options["retry"]) == (5, 2, None)
    assert client.connection_pool.make_connection().retry._retries == 0
