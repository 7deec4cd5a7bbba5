"""What a job is given by key: not asked for, fetched whole, or refused with what is wrong and what to do."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto import mock_aws
from typer.testing import CliRunner

from fraud.errors import InvalidPolicy, TollgateError
from retraining import jobs
from retraining.container import NONE
from retraining.errors import InvalidPipeline, RegistryUnreachable
from training.errors import UnreadableSource

BUCKET = "tollgate-lake"
NAMED = ("--policy", "--parameters", "--decisions")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("SM_OPT_ML", str(tmp_path))
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        yield client


def build(*words: str) -> TollgateError:
    """Return why the build step failed; it must."""
    error = CliRunner().invoke(jobs.app, ["build", "--as-of", "2026-02-14", *words]).exception
    assert isinstance(error, TollgateError), error
    return error


def parquet(**columns: Any) -> bytes:
    held = io.BytesIO()
    pq.write_table(pa.table(columns), held)
    return held.getvalue()


def test_no_key_asks_no_bucket(tmp_path: Path) -> None:
    assert jobs.given("", NONE, tmp_path) is None
    with pytest.raises(InvalidPipeline, match=r"--bucket is needed to find the key 'models/decisions\.parquet' in"):
        jobs.given("", "models/decisions.parquet", tmp_path)


def test_a_named_file_is_fetched_whole(s3: Any, tmp_path: Path) -> None:
    s3.put_object(Bucket=BUCKET, Key="models/parameters.json", Body=b"whole")
    found = jobs.given(BUCKET, "models/parameters.json", tmp_path / "new")
    assert found is not None
    assert found.read_bytes() == b"whole"


@pytest.mark.parametrize("option", NAMED)
def test_a_key_that_is_not_there_is_refused_and_the_job_says_which(s3: Any, tmp_path: Path, option: str) -> None:
    error = build("--bucket", BUCKET, option, "models/mistyped")
    assert isinstance(error, InvalidPipeline)
    assert f"s3://{BUCKET}/models/mistyped is not there: put it there, or give 'none'" in str(error)
    assert (tmp_path / "output" / "message").read_text() == f"{error} (invalid_pipeline)"


def test_a_bucket_that_does_not_answer_is_not_taken_for_a_missing_key(s3: Any) -> None:
    error = build("--bucket", "nowhere", "--decisions", "models/decisions.parquet")
    assert isinstance(error, RegistryUnreachable)
    assert "s3://nowhere/models/decisions.parquet: NoSuchBucket" in str(error)


@pytest.mark.parametrize(
    ("option", "content", "kind", "said"),
    [
        ("--policy", b'{"missing": "review"}', InvalidPolicy, "'missing' is none of becomes"),
        ("--parameters", b'{"recipe": {"dept": 3}}', UnreadableSource, "'dept' is no parameter"),
        ("--decisions", b"PAR1", UnreadableSource, "not readable as decisions"),
        (
            "--decisions",
            parquet(transaction_id=["t1"], outcome=["approve"]),
            UnreadableSource,
            "needed are transaction_id, outcome, propensity",
        ),
        (
            "--decisions",
            parquet(transaction_id=["t1"], outcome=["declined"], propensity=[0.5]),
            UnreadableSource,
            "outcome 'declined' is none of approve, review, decline",
        ),
    ],
)
def test_a_file_that_is_something_else_is_refused_before_a_row_is_built(
    s3: Any, tmp_path: Path, option: str, content: bytes, kind: type[TollgateError], said: str
) -> None:
    s3.put_object(Bucket=BUCKET, Key="models/given", Body=content)
    error = build("--bucket", BUCKET, option, "models/given")
    assert isinstance(error, kind)
    assert said in str(error)
    assert error.code in (tmp_path / "output" / "failure").read_text()
