"""How fast an emptied online store is rebuilt from the log, and what readers see meanwhile.

A simulated lake with its nightly profiles, ``feast apply``, and then the runbook's own command, ``feast materialize``,
as a process of its own, into an empty Valkey and, smaller, into DynamoDB on an emulator (whose rate says nothing about
AWS). Rows are transactions in the log, entities are keys or items afterwards, memory is the process's peak. The time is
the command's, with Feast's start in it; the same command over a day without a row says how much that is, and a rebuild
of which it is more than a fifth says that the rates would be higher on a longer history.

Before the rebuild the stream has already written newer states for some entities, one payment ahead of the log. While it
runs, a reader asks either store for states all the time: no read may fail and no revision may fall; afterwards the
newer states must still be there, bit for bit. Otherwise the command fails.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Final, Generic, TypeVar

import redis
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from fraud import velocity
from fraud.errors import StoreUnavailable
from fraud.transaction import Transaction
from stores.dynamodb_layout import ID, REVISION, VALUES, Item, item, raise_state, state_features, table_name
from stores.dynamodb_tables import Tables, Wanted
from stores.guards import state_fields, state_view
from stores.layout import decode_value, encode_value
from tests.support.emulators import aws_environment, start_valkey, valkey_client
from tests.support.tables import everything, open_tables, start_dynamodb

ROOT: Final = Path(__file__).resolve().parents[1]
REPO: Final = ROOT / "feature_repo"
AHEAD: Final = 200
"""Entities for which the stream is ahead of the log."""

START_SHARE: Final = 0.2
"""Feast's start may be so much of a rebuild whose rates are to be quoted."""

CARD: Final = state_view("card")
CARDS: Final = table_name("fraud", CARD.view)

Key = TypeVar("Key")


@dataclass(frozen=True)
class Rebuild:
    """One rebuild; ``start_s`` of its seconds are Feast's start; the rest is what a reader saw meanwhile."""

    store: str
    rows: int
    entities: int
    seconds: float
    start_s: float
    peak_mb: float
    reads: int
    reads_failed: int
    reads_fallen: int
    newer_kept: bool

    @property
    def harmed(self) -> bool:
        """Whether somebody was harmed by it: a read that failed or fell, a newer state that was lost, nobody to see."""
        return not self.newer_kept or self.reads == 0 or self.reads_failed + self.reads_fallen > 0


@dataclass
class Reader(Generic[Key]):
    """Asks for the revisions of cards until it is stopped.

    Parameters
    ----------
    ask
        Returns the revision of a card, 0 where there is none; raises a Redis error or ``StoreUnavailable`` when the
        store does not answer.
    keys
        The cards.
    """

    ask: Callable[[Key], int]
    keys: Sequence[Key]
    reads: int = 0
    failed: int = 0
    fallen: int = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Read while the block runs."""
        stop = threading.Event()
        thread = threading.Thread(target=self._read, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _read(self, stop: threading.Event) -> None:
        seen: dict[Key, int] = {}
        while not stop.is_set():
            for key in self.keys:
                try:
                    revision = self.ask(key)
                except (redis.RedisError, StoreUnavailable):
                    self.failed += 1
                    continue
                self.reads += 1
                self.fallen += revision < seen.get(key, 0)
                seen[key] = max(revision, seen.get(key, 0))
            stop.wait(0.005)


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    days: Annotated[int, typer.Option(min=2, help="Days of history.")] = 60,
    per_day: Annotated[int, typer.Option(min=100, help="Transactions a day.")] = 75_000,
    dynamodb_per_day: Annotated[int, typer.Option(min=0, help="The same for DynamoDB's smaller lake; 0: none.")] = 100,
) -> None:
    """Rebuild, watch, count."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    rebuilds = []
    with tempfile.TemporaryDirectory() as name, Progress(*columns, console=Console(stderr=True)) as progress:
        step = progress.add_task("history")
        lake = _lake(Path(name) / "lake", days, per_day)
        progress.update(step, description="Valkey: apply, materialize, empty, materialize again")
        rebuilds.append(_valkey(Path(name), lake))
        if dynamodb_per_day:
            progress.update(step, description="DynamoDB on an emulator")
            small = _lake(Path(name) / "small", days, dynamodb_per_day)
            rebuilds.append(_dynamodb(Path(name), small))
    _show(rebuilds)
    if json_file is not None:
        figures = {"rebuilds": [asdict(rebuild) for rebuild in rebuilds]}
        json_file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _lake(folder: Path, days: int, per_day: int) -> Path:
    world = ["--days", str(days), "--transactions-per-day", str(per_day), "--out", str(folder)]
    _run([sys.executable, "-m", "simulation", "generate", *world], {})
    _run([sys.executable, "-m", "training", "profiles", "--lake", str(folder)], {})
    return folder


def _valkey(folder: Path, lake: Path) -> Rebuild:
    config = folder / "valkey.yaml"
    with start_valkey() as port, valkey_client(port) as client:
        text = (REPO / "feature_store.local.yaml").read_text(encoding="utf-8")
        config.write_text(text.replace("../build/demo/registry.db", str(folder / "valkey.db")), encoding="utf-8")
        place = {"FRAUD_LAKE": str(lake), "TOLLGATE_REDIS_PORT": str(port)}
        _feast(config, place, "apply")
        _materialize(config, place, lake)
        start, _ = _feast(config, place, "materialize", "2000-01-01T00:00:00", "2000-01-02T00:00:00")
        cards = [key for key in client.scan_iter(count=10_000) if client.hexists(key, CARD.state)]
        newer = {key: _ahead(client, key) for key in cards[:AHEAD]}
        client.flushall()
        for key, fields in newer.items():
            client.execute_command("HSET", key, *fields)
        reader = Reader(partial(_redis_revision, client), cards[: 2 * AHEAD])
        with reader.watching():
            seconds, peak = _materialize(config, place, lake)
        kept = all(_held(client, key) == fields[1::2] for key, fields in newer.items())
        entities = int(client.dbsize())
    seen = reader.reads, reader.failed, reader.fallen, kept
    return Rebuild("Valkey", _rows(lake), entities, seconds, start, peak, *seen)


def _redis_revision(client: "redis.Redis[bytes]", key: bytes) -> int:
    raw = client.hget(key, CARD.revision)
    return 0 if raw is None else int(decode_value(raw))  # type: ignore[arg-type]  # an Int64 field


def _ahead(client: "redis.Redis[bytes]", key: bytes) -> list[bytes]:
    """Return the fields of a card's state after one more payment."""
    state = bytes(decode_value(client.hget(key, CARD.state)))  # type: ignore[arg-type]  # a Bytes field that is there
    newer, later_ms = _one_more(state)
    return state_fields(CARD, newer, _redis_revision(client, key) + 1, later_ms)


def _one_more(state: bytes) -> tuple[bytes, int]:
    """Return a card's state after one more payment, a day after its newest, and the time of that."""
    later = velocity.newest_time_ms("card", state) + 86_400_000
    payment = Transaction(
        transaction_id="ahead",
        card_id="any",
        merchant_id="m",
        device_id=None,
        amount_minor=100,
        currency="EUR",
        event_time_ms=later,
        channel="pos",
        merchant_category=5411,
        country="DE",
    )
    newer, _ = velocity.update("card", state, velocity.transaction_change("card", payment))
    return newer, later


def _held(client: "redis.Redis[bytes]", key: bytes) -> list[bytes | None]:
    return [client.hget(key, name) for name in (CARD.state, CARD.revision, CARD.time)]


def _dynamodb(folder: Path, lake: Path) -> Rebuild:
    config = folder / "dynamodb.yaml"
    with start_dynamodb() as endpoint:
        text = (REPO / "feature_store.dynamodb.yaml").read_text(encoding="utf-8")
        text = re.sub(r"  registry_store_type: .*\n", "", text).replace("provider: aws", "provider: local")
        # The lake is on disk: only the online store asks for the endpoint.
        text = text.replace("${TOLLGATE_AWS_ENDPOINT:-}", endpoint)
        config.write_text(text.replace("${FRAUD_REGISTRY}", str(folder / "dynamodb.db")), encoding="utf-8")
        place = aws_environment() | {"FRAUD_LAKE": str(lake)}
        os.environ.update(aws_environment())  # for our own look at the tables
        _feast(config, place, "apply")
        _materialize(config, place, lake)
        start, _ = _feast(config, place, "materialize", "2000-01-01T00:00:00", "2000-01-02T00:00:00")
        with open_tables(endpoint) as tables:
            cards = [key for table, key in everything(tables) if table == CARDS]
            newer = [_item_ahead(_card(tables, key)) for key in cards[:AHEAD]]
            names = tables.client.list_tables()["TableNames"]
            tables.delete(names)
            tables.create(names)
            tables.put([raise_state(CARDS, made) for made in newer])
            reader = Reader(partial(_dynamodb_revision, tables), cards[: 2 * AHEAD])
            with reader.watching():
                seconds, peak = _materialize(config, place, lake)
            kept = all(_card(tables, made[ID]["S"]) == made for made in newer)
            entities = len({key for _, key in everything(tables)})
    seen = reader.reads, reader.failed, reader.fallen, kept
    return Rebuild("DynamoDB, emulated", _rows(lake), entities, seconds, start, peak, *seen)


def _card(tables: Tables, key: str) -> Item:
    """Return a card's whole item."""
    found: Item = tables.client.get_item(TableName=CARDS, Key={ID: {"S": key}}, ConsistentRead=True)["Item"]
    return found


def _dynamodb_revision(tables: Tables, key: str) -> int:
    _, revision = state_features("card")
    found = tables.read([Wanted(CARDS, [key], [revision])])
    held = found[CARDS, key][VALUES]["M"][revision]["B"] if found else None
    return 0 if held is None else int(decode_value(held))  # type: ignore[arg-type]  # an Int64 feature


def _item_ahead(held: Item) -> Item:
    """Return a card's item after one more payment."""
    state, revision = state_features("card")
    newer, later_ms = _one_more(bytes(decode_value(held[VALUES]["M"][state]["B"])))  # type: ignore[arg-type]  # Bytes
    count = int(held[REVISION]["N"]) + 1
    values = {state: encode_value(newer), revision: encode_value(count)}
    return item(held[ID]["S"], values, later_ms * 1000, count)


def _materialize(config: Path, place: Mapping[str, str], lake: Path) -> tuple[float, float]:
    manifest = json.loads((lake / "manifest.json").read_text(encoding="utf-8"))
    until = datetime.fromisoformat(manifest["last_day"]).replace(tzinfo=UTC) + timedelta(days=1)
    return _feast(config, place, "materialize", "2000-01-01T00:00:00", f"{until:%Y-%m-%dT%H:%M:%S}")


def _rows(lake: Path) -> int:
    return int(json.loads((lake / "manifest.json").read_text(encoding="utf-8"))["rows"])


def _feast(config: Path, place: Mapping[str, str], *words: str) -> tuple[float, float]:
    """Run Feast's own command; return its seconds and its peak memory in MB."""
    feast = str(Path(sys.executable).with_name("feast"))
    return _run([feast, "-c", str(REPO), "-f", str(config), *words], place)


def _run(command: list[str], place: Mapping[str, str]) -> tuple[float, float]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **place}
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed: {said.read().decode()[-2000:]}")
    return seconds, used.ru_maxrss / 1024


def _show(rebuilds: list[Rebuild]) -> None:
    columns = (
        "store",
        "rows",
        "entities",
        "seconds",
        "start",
        "rows/s",
        "entities/s",
        "peak MB",
        "reads",
        "failed",
        "fell",
    )
    table = Table(*columns, title="feast materialize into an empty online store")
    for one in rebuilds:
        rates = one.rows / one.seconds, one.entities / one.seconds
        cells = one.reads, one.reads_failed, one.reads_fallen
        table.add_row(
            one.store,
            f"{one.rows:,}",
            f"{one.entities:,}",
            f"{one.seconds:.1f}",
            f"{one.start_s:.1f}",
            *(f"{rate:,.0f}" for rate in rates),
            f"{one.peak_mb:,.0f}",
            *(f"{cell:,}" for cell in cells),
        )
    console = Console(width=130)
    console.print(table)
    if rebuilds[0].start_s > START_SHARE * rebuilds[0].seconds:
        share = 100 * rebuilds[0].start_s / rebuilds[0].seconds
        console.print(
            f"Feast's start is {share:.0f} % of the time: a longer history (--days, --per-day) has higher rates."
        )
    kept = all(one.newer_kept for one in rebuilds)
    console.print(f"{AHEAD} states that the stream had written before, one payment newer than the log: ", end="")
    console.print("all still there, bit for bit." if kept else "REPLACED BY OLDER ONES.")
    if any(one.harmed for one in rebuilds):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
