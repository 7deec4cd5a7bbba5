"""The live hour: stream, worker and scorer as real processes, traffic through HTTP and Kinesis."""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import boto3
from botocore.config import Config

from demo.errors import DemoStopped
from demo.places import Places, free_port
from demo.processes import CREDENTIALS, Running, started, stop, wait_for_http, wait_for_word
from demo.replay import Answers, Publisher, replay
from demo.screen import Step
from fraud.transaction import Transaction
from streaming.producer import create_stream, publish

STREAM: Final = "transactions"
BUCKET: Final = "tollgate"
SHARDS: Final = 2
DRAIN_WITHIN_S: Final = 30.0


@dataclass(frozen=True)
class Cloud:
    """Clients of the endpoint on loopback."""

    endpoint: str

    def client(self, service: str) -> Any:
        """Return a boto3 client."""
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"max_attempts": 3}, s3={"addressing_style": "path"}),
        )

    def prepare(self) -> None:
        """Make the stream and the bucket."""
        create_stream(self.client("kinesis"), STREAM, SHARDS)
        region = {"LocationConstraint": CREDENTIALS["AWS_DEFAULT_REGION"]}
        self.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=region)

    def fetch(self, prefix: str, places: Places) -> list[str]:
        """Copy the objects under ``prefix`` to the demo's folder; return their names."""
        s3 = self.client("s3")
        names = []
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
            for item in page.get("Contents", []):
                path = places.stream / item["Key"]
                path.parent.mkdir(parents=True, exist_ok=True)
                s3.download_file(BUCKET, item["Key"], str(path))
                names.append(item["Key"])
        return names


@dataclass(frozen=True)
class Live:
    """The processes of the live hour."""

    worker: Running
    scorer: Running
    port: int


def deployment(places: Places, cloud: Cloud, *, redis_port: int, bind_port: int, currency: str) -> dict[str, str]:
    """Return the settings of worker and scorer."""
    return {
        "TOLLGATE_REDIS_PORT": str(redis_port),
        "TOLLGATE_AWS_ENDPOINT": cloud.endpoint,
        "TOLLGATE_REGION": CREDENTIALS["AWS_DEFAULT_REGION"],
        "TOLLGATE_STREAM": STREAM,
        "TOLLGATE_BUCKET": BUCKET,
        "TOLLGATE_BIND_PORT": str(bind_port),
        "TOLLGATE_MODEL_DIR": str(places.models / "champion"),
        "TOLLGATE_DECISION_LOG": str(places.decisions),
        "TOLLGATE_CURRENCY": currency,
    }


@contextlib.contextmanager
def live_processes(places: Places, cloud: Cloud, *, redis_port: int, currency: str) -> Iterator[Live]:
    """Run the stream worker and the scorer, ready for traffic."""
    port = free_port()
    environ = deployment(places, cloud, redis_port=redis_port, bind_port=port, currency=currency)
    work = ["streaming", "work", "--state-dir", str(places.stream / "state")]
    with (
        started("stream worker", work, places, environ) as worker,
        started("scorer", ["serving", "serve"], places, environ) as scorer,
    ):
        wait_for_word(worker, "worker_ready")
        wait_for_http(scorer, f"http://127.0.0.1:{port}/ping")
        yield Live(worker, scorer, port)


def play(transactions: Sequence[Transaction], running: Live, cloud: Cloud, *, seconds: float, step: Step) -> Answers:
    """Replay the hour: score each transaction, then publish it with what became of it."""
    kinesis = cloud.client("kinesis")
    publisher = Publisher(lambda some: publish(kinesis, STREAM, some))

    def answered(transaction: Transaction, _decision: Mapping[str, Any]) -> None:
        publisher.add(transaction)

    answers = asyncio.run(
        replay(
            transactions,
            port=running.port,
            seconds=seconds,
            answered=answered,
            tick=lambda sent: step.advance(sent, len(transactions)),
        )
    )
    publisher.close()
    running.worker.check()
    running.scorer.check()
    return answers


def drain(places: Places, running: Live, *, records: int, step: Step) -> dict[str, Any]:
    """Wait until the worker has applied ``records``, stop it, and return its figures.

    Raises
    ------
    DemoStopped
        It did not get there in time.
    """
    path = places.stream / "state" / "metrics.json"
    deadline = time.monotonic() + DRAIN_WITHIN_S
    seen = 0
    while time.monotonic() < deadline:
        running.worker.check()
        if path.exists():
            seen = json.loads(path.read_text())["records"]
            step.advance(seen, records)
            if seen >= records:
                stop(running.worker.process)
                figures: dict[str, Any] = json.loads(path.read_text())
                return figures
        time.sleep(0.1)
    raise DemoStopped(f"the stream worker applied {seen} of {records} records within {DRAIN_WITHIN_S:.0f} s")
