"""The scorer's process hands every decision to Firehose, the last ones while it drains."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from monitoring.shipping import parquet_bytes
from tests.support.bundles import write_test_bundle
from tests.support.emulators import REGION, aws_client, aws_environment, start_moto
from tests.support.scorers import ROOT, payment, start_scorer


def test_every_decision_is_in_s3_after_the_scorer_has_drained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in aws_environment().items():
        monkeypatch.setenv(name, value)
    with start_moto() as endpoint, aws_client("s3", endpoint) as s3, aws_client("firehose", endpoint) as firehose:
        s3.create_bucket(Bucket="lake", CreateBucketConfiguration={"LocationConstraint": REGION})
        destination = {"BucketARN": "arn:aws:s3:::lake", "RoleARN": "arn:aws:iam::123456789012:role/delivery"}
        firehose.create_delivery_stream(DeliveryStreamName="decisions", ExtendedS3DestinationConfiguration=destination)
        settings = {"aws_endpoint": endpoint, "decision_stream": "decisions"}
        with start_scorer(write_test_bundle(tmp_path / "model"), 9, **settings) as scorer:
            answers = {a["decision_id"]: a for a in (scorer.decide(payment(number)) for number in range(40))}
            assert scorer.stop() == 0
            (stopped,) = scorer.events("scorer_stopped")
        found: dict[str, dict[str, Any]] = {}
        for item in s3.list_objects_v2(Bucket="lake").get("Contents", ()):
            body = s3.get_object(Bucket="lake", Key=item["Key"])["Body"].read()
            found.update({row["decision_id"]: row for row in map(json.loads, body.splitlines())})
        # On AWS the delivery stream itself writes its lines as Parquet; the emulated one leaves them as they are.
        table = parquet_bytes(list(found.values()))
        s3.put_object(Bucket="lake", Key="decisions/table/dt=2026-02-02/hour=02/decisions-1-a", Body=table)
        again = rescored("s3://lake/decisions/table", tmp_path / "model", endpoint)
    assert (again["compared"], again["different"], again["unreadable"], again["other_model"]) == (40, 0, 0, 0)
    assert (stopped["decisions"], stopped["lost"]) == (40, 0)
    assert {key: (row["outcome"], row["score"]) for key, row in found.items()} == {
        key: (answer["outcome"], answer["score"]) for key, answer in answers.items()
    }


def rescored(place: str, model: Path, endpoint: str) -> dict[str, Any]:
    """Return what the command says that makes the decisions of a bucket again."""
    command = [sys.executable, "-m", "serving", "rescore", "--json", "-", "--log", place, "--model", str(model)]
    environment = {**aws_environment(), "TOLLGATE_AWS_ENDPOINT": endpoint, "TOLLGATE_REGION": REGION}
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, env={**os.environ, **environment})
    said: dict[str, Any] = json.loads(ran.stdout)
    return said
