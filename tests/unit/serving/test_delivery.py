"""Decisions on their way to Firehose: against moto's own, and against a service that is busy, away or gone."""

import json
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving import decisions, delivery, line_file
from serving.decisions import DecisionLog
from serving.delivery import Delivery
from serving.metrics import Metrics
from stores.aws_call import AwsCalls
from tests.support.decisions import made
from tests.support.emulators import REGION, aws_client, aws_environment, free_port, start_moto
from tests.support.loopback import serve_http
from tests.support.scorers import await_true

KEYS = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "S"}
Records = list[dict[str, Any]]


@contextmanager
def firehose(answer: Callable[[Records], tuple[int, Any]]) -> Iterator[tuple[str, list[Records]]]:
    """Answer PutRecordBatch; yield the address and the batches that came."""
    batches: list[Records] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            records = [json.loads(b64decode(record["Data"])) for record in asked["Records"]]
            batches.append(records)
            status, body = answer(records)
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with serve_http(Handler) as port:
        yield f"http://127.0.0.1:{port}", batches


def taken(records: Records) -> tuple[int, Any]:
    return 200, {"FailedPutCount": 0, "RequestResponses": [{"RecordId": "r"} for _ in records]}


def started(endpoint: str, metrics: Metrics) -> Delivery:
    made = Delivery(AwsCalls("firehose", REGION, endpoint, environ=KEYS, timeout_s=5), "decisions", metrics=metrics)
    made.start()
    return made


def lines(count: int) -> list[bytes]:
    """Return lines as the decision log writes them."""
    return [decisions._line(made(number)) for number in range(count)]


def test_every_decision_arrives_in_s3_as_it_was_logged() -> None:
    metrics = Metrics()
    with start_moto() as endpoint, aws_client("s3", endpoint) as s3, aws_client("firehose", endpoint) as client:
        s3.create_bucket(Bucket="lake", CreateBucketConfiguration={"LocationConstraint": REGION})
        client.create_delivery_stream(
            DeliveryStreamName="decisions",
            ExtendedS3DestinationConfiguration={
                "BucketARN": "arn:aws:s3:::lake",
                "RoleARN": "arn:aws:iam::123456789012:role/delivery",
                "Prefix": "decisions/",
            },
        )
        calls = AwsCalls("firehose", REGION, endpoint, environ=aws_environment(), timeout_s=20)
        log = DecisionLog(None, metrics=metrics, delivery=Delivery(calls, "decisions", metrics=metrics))
        log.start()
        for number in range(700):
            log.append(made(number))
        log.close()
        found = {}
        for item in s3.list_objects_v2(Bucket="lake", Prefix="decisions/")["Contents"]:
            body = s3.get_object(Bucket="lake", Key=item["Key"])["Body"].read()
            found.update({row["decision_id"]: row for row in map(json.loads, body.splitlines())})
    assert metrics.decisions_delivered.total() == 700
    assert metrics.decisions_lost.total() == metrics.decisions_undelivered.total() == 0
    assert sorted(found) == sorted(f"d{number}" for number in range(700))
    for number in (0, 1, 699):
        row = found[f"d{number}"]
        vector = np.array([np.nan if value is None else value for value in row["vector"]])
        assert np.array_equal(vector, made(number).vector, equal_nan=True)
        assert row["score"] == made(number).decision.score
        assert row["transaction"]["transaction_id"] == made(number).transaction.transaction_id


def test_only_what_was_not_taken_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "PAUSE_S", 0.01)
    refusals = [3]

    def busy(records: Records) -> tuple[int, Any]:
        if refusals[0] == 0:
            return taken(records)
        refusals[0] -= 1
        said = [
            {"ErrorCode": "ServiceUnavailableException"} if n % 2 else {"RecordId": "r"} for n in range(len(records))
        ]
        return 200, {"FailedPutCount": len(records) // 2, "RequestResponses": said}

    metrics = Metrics()
    with firehose(busy) as (endpoint, batches):
        sending = started(endpoint, metrics)
        sending.offer(lines(8))
        await_true(lambda: metrics.decisions_delivered.total() == 8)
        sending.close()
    assert [len(batch) for batch in batches] == [8, 4, 2, 1]
    assert [row["decision_id"] for row in batches[1]] == ["d1", "d3", "d5", "d7"]
    assert metrics.decisions_redelivered.total() == 7


def test_a_service_that_errs_or_is_away_loses_nothing_that_the_queue_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "PAUSE_S", 0.01)
    failing = [True]
    metrics = Metrics()
    with firehose(lambda records: (500, {}) if failing[0] else taken(records)) as (endpoint, batches):
        sending = started(endpoint, metrics)
        sending.offer(lines(20))
        await_true(lambda: len(batches) >= 3)
        failing[0] = False
        await_true(lambda: metrics.decisions_delivered.total() == 20)
        sending.close()
    assert metrics.decisions_undelivered.total() == 0


def test_what_the_queue_does_not_hold_and_what_is_left_at_the_end_is_lost_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "QUEUE_LENGTH", 50)
    monkeypatch.setattr(delivery, "CLOSING_S", 0.1)
    monkeypatch.setattr(delivery, "PAUSE_S", 0.01)
    metrics = Metrics()
    sending = started(f"http://127.0.0.1:{free_port()}", metrics)
    offered = lines(30)
    for _ in range(10):
        sending.offer(offered)
    sending.close()
    assert metrics.decisions_delivered.total() == 0
    assert metrics.decisions_undelivered.total() == 300


def test_batches_keep_within_firehoses_limits() -> None:
    metrics = Metrics()
    with firehose(taken) as (endpoint, batches):
        sending = Delivery(
            AwsCalls("firehose", REGION, endpoint, environ=KEYS, timeout_s=5), "decisions", metrics=metrics
        )
        sending.offer(lines(1203))
        sending.start()
        sending.close()
    assert [len(batch) for batch in batches] == [500, 500, 203]
    assert metrics.decisions_delivered.total() == 1203


def test_the_disks_share_is_kept_and_what_goes_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr(line_file, "FILE_BYTES", 20_000)
    metrics = Metrics()
    log = DecisionLog(tmp_path, metrics=metrics, most_bytes=100_000)
    log.start()
    for number in range(400):
        log.append(made(number))
        if number % 5 == 0:
            log.flush()
    log.close()
    sizes = [path.stat().st_size for path in tmp_path.glob("*.jsonl")]
    left = sum(len(path.read_bytes().splitlines()) for path in tmp_path.glob("*.jsonl"))
    assert sum(sizes) <= 100_000
    assert len(sizes) > 1
    assert metrics.decisions_lost.total() == 400 - left > 0
