"""The worker killed at random, many times over, in one replay: what it loses and what it does twice.

A stream of Kinesis (an emulator on loopback) is replayed into Redis by the worker, a process of its own, which dies by
SIGKILL at a random moment, as often as asked, and is started again each time. At the end every entity's state must be,
byte for byte, what the transactions in order make of it; the log of changes must tell every revision of every entity
once; the offline log must hold every transaction once. A kill counts when the worker had begun to apply and was not
done. Ends with code 1 when anything is lost or doubled.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import redis
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fraud.record import records_of
from fraud.transaction import Transaction
from streaming.producer import create_stream, publish
from tests.support.emulators import aws_client, start_moto, start_valkey, valkey_client
from tests.support.payments import Key, payments, revisions, stored
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


def kill_once(
    process: "subprocess.Popen[str]", applied: Callable[[], int], total: int, dice: random.Random, share: float
) -> bool:
    """Kill the worker after it applied some more; return whether it was in the middle of things."""
    before = applied()
    target = before + dice.randrange(1, max(2, int(total * share)))
    deadline = time.monotonic() + PATIENCE_S
    while (now := applied()) < target and process.poll() is None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the worker stopped at {now} of {total} changes")
        time.sleep(dice.random() * 0.01)
    process.kill()
    process.wait()
    return before < applied() < total


def applied_changes(client: "redis.Redis[bytes]", keys: list[Key]) -> int:
    """Return how many changes the store holds."""
    return sum(revisions(client, stored(client, keys)).values())


def compare(some: list[Transaction], expected: dict[Key, bytes], client: "redis.Redis[bytes]", where: Path) -> Losses:
    """Return what is missing and what is there twice."""
    held = stored(client, expected)
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


def run(kills: int, count: int, seed: int, where: Path, progress: Progress) -> Losses:
    """Replay ``count`` transactions while killing the worker ``kills`` times."""
    dice = random.Random(seed)
    some = payments(count, cards=100, seed=seed)
    expected = expected_states(some)
    keys = list(expected)
    task = progress.add_task("killing", total=kills)
    with (
        start_moto() as endpoint,
        aws_client("kinesis", endpoint) as kinesis,
        start_valkey() as port,
        valkey_client(port) as client,
    ):
        create_stream(kinesis, STREAM, 2)
        total = publish(kinesis, STREAM, some).records
        done = 0
        while done < kills:
            left = 1 - applied_changes(client, keys) / total
            with worker(endpoint, STREAM, port, where, "--batch", "20") as process:
                share = left / (kills - done + 1)
                done += kill_once(process, lambda: applied_changes(client, keys), total, dice, share)
            progress.update(task, completed=done)
            if applied_changes(client, keys) >= total:
                break
        figures = run_until_idle(endpoint, STREAM, port, where)
        losses = compare(some, expected, client, where)
        return Losses(**{**asdict(losses), "kills": done, "delivered_again": figures["repeated"]})


def main(
    kills: Annotated[int, typer.Option(help="How often the worker dies.", min=1)] = 50,
    transactions: Annotated[int, typer.Option(help="Transactions in the replay.", min=100)] = 20_000,
    seed: Annotated[int, typer.Option(help="Chooses transactions and moments.")] = 7,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Kill and compare; print what was lost and doubled."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Progress(console=Console(stderr=True), transient=True) as progress:
        losses = run(kills, transactions, seed, Path(folder), progress)
    figures = {"store": "redis", **asdict(losses), "seconds": round(time.monotonic() - start)}
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
