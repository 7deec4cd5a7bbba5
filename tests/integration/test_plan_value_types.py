"""The compiled plan reads what Feast reads: every type of scalar and list, any join keys, any version of a view."""

import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stores.compiling import compile_plan
from stores.dynamodb_reading import TableReader
from stores.errors import UnsupportedRequest
from stores.plan import CompiledReader, plan_data, plan_from
from tests.support.emulators import start_valkey, valkey_client

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
NOW = datetime(2026, 2, 2, tzinfo=UTC)
ROWS = 60
SHOPS = ("s0", "s1", "ü2")
draw = random.Random(11)


def whole(bits: int) -> int:
    return draw.choice((0, 1, -1, 2 ** (bits - 1) - 1, -(2 ** (bits - 1)), draw.randrange(-1000, 1000)))


def single(number: float) -> float:
    import numpy as np

    return float(np.float32(number))


MAKERS: dict[str, Any] = {
    "Int32": lambda: whole(32),
    "Int64": lambda: whole(64),
    "Float64": lambda: draw.choice((0.0, -0.0, 1e308, -5e-324, draw.gauss(0, 100))),
    "Float32": lambda: single(draw.choice((0.0, -0.0, 3e38, draw.gauss(0, 100)))),
    "Bool": lambda: draw.random() < 0.5,
    "String": lambda: draw.choice(("", "a", "köln", "x" * 300)),
    "Bytes": lambda: draw.choice((b"", b"\0\xff", bytes(300))),
    "UnixTimestamp": lambda: draw.randrange(1, 2_000_000_000),
}


def values(name: str) -> list[Any]:
    """Return a column: nulls, and of a list also empty ones."""
    kind = name.removesuffix("List")
    if kind == name:
        return [None if draw.random() < 0.2 else MAKERS[kind]() for _ in range(ROWS)]
    return [None if draw.random() < 0.2 else [MAKERS[kind]() for _ in range(draw.randrange(6))] for _ in range(ROWS)]


KINDS = (*MAKERS, *(f"{kind}List" for kind in MAKERS))


def field(kind: str) -> Any:
    from feast import Field, types

    dtype = getattr(types, kind.removesuffix("List"))
    return Field(name=kind.lower(), dtype=types.Array(dtype) if kind.endswith("List") else dtype)


def open_store(folder: Path, port: int, **registry: Any) -> Any:
    from feast import FeatureStore, RepoConfig

    return FeatureStore(
        config=RepoConfig(
            project="p",
            provider="local",
            registry={"registry_type": "file", "path": str(folder / "registry.db"), **registry},
            online_store={"type": "redis", "connection_string": f"127.0.0.1:{port}"},
            offline_store={"type": "dask"},
            entity_key_serialization_version=3,
        )
    )


def view(name: str, entities: list[Any], fields: list[Any], folder: Path) -> Any:
    from feast import FeatureView, FileSource

    source = FileSource(name=f"{name}_source", path=str(folder / "none.parquet"), timestamp_field="event_timestamp")
    return FeatureView(name=name, entities=entities, schema=fields, source=source, ttl=timedelta(0))


PLAIN = {
    "Int32": "int32",
    "Int64": "int64",
    "Float64": "double",
    "Float32": "float",
    "Bool": "bool",
    "String": "string",
    "Bytes": "bytes",
    "UnixTimestamp": "unix_timestamp",
}


def key(number: int) -> Any:
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    return EntityKey(join_keys=["user_id"], entity_values=[Value(int64_val=number)])


def whole_key(row: Mapping[str, Any]) -> Any:
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    values = Value(int64_val=row["user_id"]), Value(string_val=row["shop_id"]), Value(int32_val=row["desk_id"])
    return EntityKey(join_keys=["user_id", "shop_id", "desk_id"], entity_values=values)


def held(kind: str, value: Any) -> Any:
    """Return a value in Feast's own protobuf."""
    from feast.protos.feast.types import Value_pb2

    made, name = Value_pb2.Value(), PLAIN[kind.removesuffix("List")]
    if value is None:
        return made
    if not kind.endswith("List"):
        setattr(made, f"{name}_val", value)
        return made
    part = getattr(made, f"{name}_list_val")
    part.SetInParent()
    part.val.extend(value)
    return made


def entity(key: str, kind: str) -> Any:
    from feast import Entity, ValueType

    return Entity(name=key.removesuffix("_id"), join_keys=[key], value_type=ValueType[kind])


@pytest.fixture(scope="module")
def valkey() -> Iterator[int]:
    with start_valkey() as port:
        yield port


def read_plan(store: Any, service: str, port: int, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return every feature of one question, read by the plan as a bundle carries it."""
    reader = CompiledReader(plan_from(plan_data(compile_plan(store, service))))
    with valkey_client(port) as client, client.pipeline(transaction=False) as pipe:
        for command in reader.commands(keys):
            pipe.execute_command(*command)  # type: ignore[no-untyped-call]
        found = reader.readings(pipe.execute())
    assert b"".join(packed for _, packed in reader.packed(keys)) == reader.payload(keys)
    return {name: value for reading in found.values() for name, value in reading.values.items()}  # noqa: PD011


def plain(value: Any) -> Any:
    """Return a value of Feast's as the plan gives it: times are epoch seconds, and what is no number is null."""
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, datetime):
        return int(value.replace(tzinfo=value.tzinfo or UTC).timestamp())
    return value


def same(ours: Any, theirs: Any) -> bool:
    """Return whether two values are equal and of one type, to the sign of a zero."""
    return repr(ours) == repr(theirs)


def assert_reads_the_same(store: Any, service: str, port: int, rows: list[Any]) -> int:
    """Compare the plan with ``get_online_features``; return how many values were not null."""
    answer = store.get_online_features(store.get_feature_service(service), rows).to_dict()
    held = 0
    for place, row in enumerate(rows):
        for name, value in read_plan(store, service, port, row).items():
            theirs = plain(answer[name][place])
            assert same(value, theirs), (row, name, value, theirs)
            held += value is not None
    return held


def test_every_type_nulls_and_entities_never_seen_are_read_as_feast_reads_them(valkey: int, tmp_path: Path) -> None:
    from feast import FeatureService

    store = open_store(tmp_path, valkey)
    user = entity("user_id", "INT64")
    every = view("every_type", [user], [field(kind) for kind in KINDS], tmp_path)
    store.apply([user, every, FeatureService(name="types", features=[every])])
    columns = {kind: values(kind) for kind in KINDS}
    written = [
        (key(number - ROWS // 2), {kind.lower(): held(kind, columns[kind][number]) for kind in KINDS}, NOW, None)
        for number in range(ROWS)
    ]
    store._get_provider().online_write_batch(store.config, store.get_feature_view("every_type"), written, None)
    rows = [{"user_id": number - ROWS // 2} for number in range(ROWS + 5)]
    assert assert_reads_the_same(store, "types", valkey, rows) > ROWS * len(KINDS) / 2


def test_join_keys_of_other_types_and_several_at_once_find_their_rows(valkey: int, tmp_path: Path) -> None:
    from feast import FeatureService, Field
    from feast.infra.online_stores.helpers import compute_entity_id
    from feast.types import Int64

    store = open_store(tmp_path, valkey)
    user, shop, desk = entity("user_id", "INT64"), entity("shop_id", "STRING"), entity("desk_id", "INT32")
    count = Field(name="pair_count", dtype=Int64)
    pairs = view("pairs", [user, shop, desk], [count], tmp_path)
    desks = view("desks", [desk], [Field(name="desk_count", dtype=Int64)], tmp_path)
    shops = view("shops", [shop], [Field(name="shop_count", dtype=Int64)], tmp_path)
    service = FeatureService(name="pairs", features=[pairs, desks, shops])
    store.apply([user, shop, desk, pairs, desks, shops, service])
    frame = pd.DataFrame(
        {
            "user_id": [draw.choice((number, -number, 2**40 + number)) for number in range(ROWS)],
            "shop_id": [SHOPS[number % 3] for number in range(ROWS)],
            "desk_id": pd.Series([number - 30 for number in range(ROWS)], dtype="int32"),
            "pair_count": range(ROWS),
            "desk_count": range(ROWS),
            "shop_count": range(ROWS),
            "event_timestamp": NOW,
        }
    )
    store.write_to_online_store("pairs", frame[["user_id", "shop_id", "desk_id", "pair_count", "event_timestamp"]])
    store.write_to_online_store("desks", frame[["desk_id", "desk_count", "event_timestamp"]])
    store.write_to_online_store("shops", frame[["shop_id", "shop_count", "event_timestamp"]].tail(3))
    asked_of = frame[["user_id", "shop_id", "desk_id"]].to_dict("records")
    rows = [{str(name): value for name, value in row.items()} for row in asked_of]
    assert assert_reads_the_same(store, "pairs", valkey, rows) == 3 * ROWS
    asked = TableReader(compile_plan(store, "pairs"))
    for row in rows:
        ((wanted,),) = [found["Keys"] for name, found in asked.request(row).items() if name == "p.pairs"]
        assert wanted == {"entity_id": {"S": compute_entity_id(whole_key(row), 3)}}
    strangers = [{**row, "user_id": 9} for row in rows[:5]]
    assert assert_reads_the_same(store, "pairs", valkey, strangers) == 10


def test_a_version_of_a_view_is_read_from_where_feast_keeps_it(valkey: int, tmp_path: Path) -> None:
    from feast import FeatureService, Field
    from feast.types import Float64, Int64

    store = open_store(tmp_path, valkey, enable_online_feature_view_versioning=True)
    user = entity("user_id", "INT64")
    first = view("spend", [user], [Field(name="spent", dtype=Int64)], tmp_path)
    store.apply([user, first, FeatureService(name="spending", features=[first])])
    row = {"user_id": [1], "spent": [5], "event_timestamp": [NOW]}
    store.write_to_online_store("spend", pd.DataFrame(row))
    assert assert_reads_the_same(store, "spending", valkey, [{"user_id": 1}]) == 1
    second = view("spend", [user], [Field(name="spent", dtype=Int64), Field(name="mean", dtype=Float64)], tmp_path)
    store.apply([user, second, FeatureService(name="spending", features=[second])])
    store.write_to_online_store("spend", pd.DataFrame({**row, "spent": [7], "mean": [3.5]}))
    # Feast 0.67 writes to the newest version and, unless a service pins one, reads the first: the plan does as it does.
    assert assert_reads_the_same(store, "spending", valkey, [{"user_id": 1}]) == 1
    pinned = FeatureService(name="pinned", features=[second])
    pinned.feature_view_projections[0].version_tag = 1
    store.apply([pinned])
    assert compile_plan(store, "pinned").entities[0].views == ("spend_v1",)
    assert read_plan(store, "pinned", valkey, {"user_id": 1}) == {"spent": 7, "mean": 3.5}
    answer = store.get_online_features(store.get_feature_service("pinned"), [{"user_id": 1}]).to_dict()
    assert sorted(part for name, part in answer.items() if "user_id" not in name) == [[3.5], [7]]


def test_a_view_without_an_entity_is_refused(valkey: int, tmp_path: Path) -> None:
    from feast import FeatureService, Field
    from feast.types import Int64

    store = open_store(tmp_path, valkey)
    alone = view("alone", [], [Field(name="total", dtype=Int64)], tmp_path)
    store.apply([alone, FeatureService(name="alone", features=[alone])])
    with pytest.raises(UnsupportedRequest, match="no entity"):
        compile_plan(store, "alone")
