"""The worker killed at random, many times over, in one replay: what it loses and what it does twice.

A stream of Kinesis (an emulator on loopback) is replayed into Redis or DynamoDB by the worker, a process of its own,
which dies by SIGKILL at a random moment, as often as asked, and is started again each time. At the end every entity's
state must be, byte for byte, what the transactions in order make of it; the log of changes must tell every revision of
every entity once; the offline log must hold every transaction once. A kill counts when the worker had begun to apply
and was not done. Ends with code 1 when anything is lost or doubled.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Protocol

import redis
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fraud.record import records_of
from fraud.transaction import Transaction
from stores import dynamodb_tables
from stores.dynamodb_tables import Tables
from streaming.producer import create_stream, publish
from tests.support.emulators import aws_client, aws_environment, start_moto, start_valkey, valkey_client
from tests.support.payments import Key, payments, revisions, stored
from tests.support.tables import empty_velocity_tables, held_revisions, held_states, open_tables, start_dynamodb
from tests.support.workers import expected_states, landed, rows, run_until_idle, worker

STREAM = "killed"
PATIENCE_S = 120


@dataclass(frozen=True)
class Losses:
    """What was found at the end; all but the first four are zero when nothing went wrong."""

    kills: int
    transactions: int
    changes: int
    delivered_again: int
    states_wrong: int
    changes_lost: int
    changes_doubled: int
    transactions_lost: int
    transactions_doubled: int

    def clean(self) -> bool:
        """Return whether nothing was lost and nothing done twice."""
        return not (
            self.states_wrong
            or self.changes_lost
            or self.changes_doubled
            or self.transactions_lost
            or self.transactions_doubled
        )


class Store(Protocol):
    """The online store under the replay, and where the emulators are."""

    @property
    def name(self) -> str:
        """As the worker's setting has it."""

    @property
    def endpoint(self) -> str:
        """Address of the emulators."""

    @property
    def port(self) -> int:
        """Of the Redis."""

    def states(self, keys: list[Key]) -> dict[Key, bytes]:
        """Return the states that are held."""

    def applied(self, keys: list[Key]) -> int:
        """Return how many changes the store holds."""


@dataclass(frozen=True)
class RedisStore:
    """A Valkey of its own, beside an emulator of Kinesis."""

    endpoint: str
    port: int
    client: "redis.Redis[bytes]"
    name: str = "redis"

    def states(self, keys: list[Key]) -> dict[Key, bytes]:
        """Read each key."""
        return stored(self.client, keys)

    def applied(self, keys: list[Key]) -> int:
        """Add the revisions."""
        return sum(revisions(self.client, stored(self.client, keys)).values())


@dataclass(frozen=True)
class DynamoStore:
    """An emulator of DynamoDB and Kinesis in one process, one request at a time."""

    endpoint: str
    tables: Tables
    port: int = 1  # nothing listens there
    name: str = "dynamodb"

    def states(self, keys: list[Key]) -> dict[Key, bytes]:
        """Scan the tables."""
        return held_states(self.tables, keys)

    def applied(self, keys: list[Key]) -> int:
        """Add the revisions."""
        return sum(held_revisions(self.tables, keys).values())


@contextmanager
def open_store(name: str) -> Iterator[Store]:
    """Start the emulators that a store needs."""
    os.environ.update(aws_environment())
    if name == "dynamodb":
        vars(dynamodb_tables)["READ_S"] = 60.0  # the emulator takes one request at a time: the others wait
        with start_dynamodb() as endpoint, open_tables(endpoint) as tables:
            empty_velocity_tables(tables)
            yield DynamoStore(endpoint, tables)
    else:
        with start_moto() as endpoint, start_valkey() as port, valkey_client(port) as client:
            yield RedisStore(endpoint, port, client)


def kill_once(
    process: "subprocess.Popen[str]", store: Store, keys: list[Key], total: int, dice: random.Random, share: float
) -> bool:
    """Kill the worker after it applied some more; return whether it was in the middle of things."""
    before = store.applied(keys)
    target = before + dice.randrange(1, max(2, int(total * share)))
    deadline = time.monotonic() + PATIENCE_S
    while (now := store.applied(keys)) < target and process.poll() is None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the worker stopped at {now} of {total} changes")
        time.sleep(dice.random() * (0.01 if store.name == "redis" else 0.5))
    process.kill()
    process.wait()
    return before < store.applied(keys) < total


def compare(some: list[Transaction], expected: dict[Key, bytes], store: Store, where: Path) -> Losses:
    """Return what is missing and what is there twice."""
    held = store.states(list(expected))
    wanted: Counter[tuple[str, str, int, str]] = Counter()
    turns: Counter[tuple[str, str]] = Counter()
    for item in some:
        for record in records_of(item):
            turns[record.entity, record.key] += 1
            wanted[record.entity, record.key, turns[record.entity, record.key], item.transaction_id] += 1
    found, kept = Counter(rows(where)), Counter(landed(where))
    names = Counter(item.transaction_id for item in some)
    return Losses(
        kills=0,
        transactions=len(some),
        changes=wanted.total(),
        delivered_again=0,
        states_wrong=sum(held.get(key) != state for key, state in expected.items()),
        changes_lost=(wanted - found).total(),
        changes_doubled=(found - wanted).total(),
        transactions_lost=(names - kept).total(),
        transactions_doubled=(kept - names).total(),
    )


def run(name: str, kills: int, count: int, seed: int, where: Path, progress: Progress) -> Losses:
    """Replay ``count`` transactions while killing the worker ``kills`` times."""
    dice = random.Random(seed)
    some = payments(count, cards=100, seed=seed)
    expected = expected_states(some)
    keys = list(expected)
    task = progress.add_task("killing", total=kills)
    with open_store(name) as store, aws_client("kinesis", store.endpoint) as kinesis:
        create_stream(kinesis, STREAM, 2)
        total = publish(kinesis, STREAM, some).records
        done = 0
        while done < kills:
            left = 1 - store.applied(keys) / total
            with worker(store.endpoint, STREAM, store.port, where, "--batch", "20", store=store.name) as process:
                done += kill_once(process, store, keys, total, dice, left / (kills - done + 1))
            progress.update(task, completed=done)
            if store.applied(keys) >= total:
                break
        figures = run_until_idle(store.endpoint, STREAM, store.port, where, store=store.name)
        losses = compare(some, expected, store, where)
        return Losses(**{**asdict(losses), "kills": done, "delivered_again": figures["repeated"] + figures["too_late"]})


def main(
    store: Annotated[str, typer.Option(help="redis or dynamodb.")] = "redis",
    kills: Annotated[int, typer.Option(help="How often the worker dies.", min=1)] = 50,
    transactions: Annotated[int, typer.Option(help="Transactions in the replay.", min=100)] = 20_000,
    seed: Annotated[int, typer.Option(help="Chooses transactions and moments.")] = 7,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Kill and compare; print what was lost and doubled."""
    if store not in ("redis", "dynamodb"):
        raise typer.BadParameter(f"{store!r} is neither redis nor dynamodb", param_hint="--store")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Progress(console=Console(stderr=True), transient=True) as progress:
        losses = run(store, kills, transactions, seed, Path(folder), progress)
    figures = {"store": store, **asdict(losses), "seconds": round(time.monotonic() - start)}
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, value if isinstance(value, str) else f"{value:,}")
    Console().print(table)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if losses.kills < kills:
        typer.echo(f"kills: the replay ended after {losses.kills} of {kills} kills; give more --transactions", err=True)
        sys.exit(1)
    if not losses.clean():
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
