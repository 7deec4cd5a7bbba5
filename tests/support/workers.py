"""The worker as a process, and what it left behind."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fraud.record import records_of
from fraud.transaction import Transaction
from tests.support.emulators import aws_environment
from tests.support.payments import Key, states_once

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60


def environment(endpoint: str, stream: str, port: int, store: str = "redis") -> dict[str, str]:
    """Return the settings of a worker; a ``store`` that is an address is a DynamoDB beside the Kinesis."""
    ours = {"TOLLGATE_AWS_ENDPOINT": endpoint, "TOLLGATE_STREAM": stream, "TOLLGATE_REDIS_PORT": str(port)}
    ours["TOLLGATE_ONLINE_STORE"] = store
    if store.startswith("http"):
        ours |= {"TOLLGATE_AWS_ENDPOINT": "", "TOLLGATE_ONLINE_STORE": "dynamodb"}
        ours |= {"AWS_ENDPOINT_URL_KINESIS": endpoint, "AWS_ENDPOINT_URL_DYNAMODB": store}
    return {**aws_environment(), **ours, "PYTHONPATH": str(ROOT)}


@contextmanager
def worker(
    endpoint: str, stream: str, port: int, directory: Path, *more: str, store: str = "redis"
) -> "Iterator[subprocess.Popen[str]]":
    command = [sys.executable, "-m", "streaming", "work", "--state-dir", str(directory / "state")]
    command += ["--applied", str(directory / "applied"), "--flush-ms", "100", "--json", "-", *more]
    with (directory / "log").open("a") as log:
        environ = environment(endpoint, stream, port, store)
        process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT)
    assert process.stdout is not None
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def run_until_idle(endpoint: str, stream: str, port: int, directory: Path, *, store: str = "redis") -> dict[str, Any]:
    """Run a worker until the stream is quiet; return its figures."""
    with worker(endpoint, stream, port, directory, "--until-idle", "1", store=store) as process:
        out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, (directory / "log").read_text()
    ready, figures = (json.loads(line) for line in out.splitlines())
    assert ready["event"] == "worker_ready"
    return dict(figures)


def expected_states(some: list[Transaction]) -> dict[Key, bytes]:
    return states_once(record for item in some for record in records_of(item))


def rows(directory: Path) -> list[tuple[str, str, int, str]]:
    """Entity, key, revision and transaction id of every change in the log."""
    return [
        (row["entity"], row["key"], row["revision_after"], row["transaction_id"])
        for path in (directory / "applied").glob("changes/*.parquet")
        for row in pq.ParquetFile(path).read().to_pylist()
    ]


def landed(directory: Path) -> list[str]:
    return [
        name
        for path in (directory / "applied").glob("transactions/*/part-0.parquet")
        for name in pq.ParquetFile(path).read()["transaction_id"].to_pylist()
    ]
