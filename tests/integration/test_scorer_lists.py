"""A scorer takes lists from S3 while it serves, keeps them without S3, and starts without either."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.bundles import write_test_bundle
from tests.support.emulators import REGION, aws_client, aws_environment, free_port, start_moto
from tests.support.scorers import ROOT, await_true, payment, start_scorer

PLACE = "s3://lake/lists/"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_test_bundle(tmp_path / "model")


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in aws_environment().items():
        monkeypatch.setenv(name, value)


def make_bucket(endpoint: str) -> None:
    with aws_client("s3", endpoint) as client:
        client.create_bucket(Bucket="lake", CreateBucketConfiguration={"LocationConstraint": REGION})


def lists(endpoint: str, *arguments: str) -> None:
    """Run the command, as a person does who edits lists."""
    environment = {**os.environ, "TOLLGATE_AWS_ENDPOINT": endpoint, "TOLLGATE_REGION": REGION, "TOLLGATE_LISTS": PLACE}
    what = ("--entity", "merchant", "--key", "m3", "--list", "block")
    command = [sys.executable, "-m", "serving", "lists", *arguments, *what]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)


def process_of(endpoint: str) -> psutil.Process:
    port = int(endpoint.rsplit(":", 1)[1])
    listening = [c.pid for c in psutil.net_connections("tcp4") if c.laddr.port == port and c.status == "LISTEN"]
    return psutil.Process(listening[0])


def test_a_change_by_the_command_decides_without_a_restart_and_outlives_s3(model: Path) -> None:
    with start_moto() as endpoint:
        make_bucket(endpoint)
        with start_scorer(model, free_port(), lists=PLACE, aws_endpoint=endpoint, region=REGION) as scorer:
            plain = scorer.decide(payment(3))
            assert (plain["override"], scorer.metric("tollgate_lists_outdated")) == ("", 0)
            lists(endpoint, "add", "--reason", "laundering")
            await_true(lambda: scorer.decide(payment(3))["override"] == "block_list", patience_s=20)
            blocked = scorer.decide(payment(3))
            assert (blocked["outcome"], blocked["score"]) == ("decline", plain["score"])
            process = process_of(endpoint)
            process.suspend()
            try:
                await_true(lambda: scorer.metric("tollgate_lists_outdated") == 1)
                assert scorer.decide(payment(3))["override"] == "block_list"
                assert scorer.decide(payment(4))["override"] == ""
            finally:
                process.resume()
            await_true(lambda: scorer.metric("tollgate_lists_outdated") == 0)
            assert scorer.metric("tollgate_lists_refused_total") == 1
            (event,) = scorer.events("lists_refused")
            assert (event["reason"], event["kept"]) == ("S3 did not answer for bucket lake (TimeoutError)", 1)
            lists(endpoint, "remove")
            await_true(lambda: scorer.decide(payment(3))["override"] == "", patience_s=20)
            assert scorer.stop() == 0


def test_a_scorer_starts_and_answers_without_s3_and_takes_the_lists_when_it_comes(model: Path) -> None:
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with start_scorer(model, free_port(), lists=PLACE, aws_endpoint=endpoint, region=REGION) as scorer:
        assert scorer.decide(payment(3))["override"] == ""
        assert scorer.metric("tollgate_lists_outdated") == 1
        assert [event["kept"] for event in scorer.events("lists_refused")] == [0]
        with start_moto(port) as _:
            make_bucket(endpoint)
            lists(endpoint, "add", "--reason", "laundering")
            await_true(lambda: scorer.decide(payment(3))["override"] == "block_list")
            assert scorer.metric("tollgate_lists_outdated") == 0
            assert scorer.metric("tollgate_lists_refused_total") == 1
