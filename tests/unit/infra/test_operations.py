"""Publishing, redriving, bills of material, image trees and the function that an approval starts."""

import base64
import gzip
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from feast.protos.feast.core.Registry_pb2 import Registry
from moto import mock_aws

from infra import sbom, trees
from infra.__main__ import main
from infra.approval import act, lambda_handler
from infra.deployer import Rollout
from infra.environment import read_environment
from infra.errors import EndpointStuck, InvalidEnvironment, MissingPrerequisite, RolledBack
from infra.publishing import publish
from infra.redrive import redrive
from infra.served import Served
from infra.wiring import Wired

BUCKET = "tollgate-dev-lake-123456789012"
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        yield client


def a_registry(project: str) -> bytes:
    registry = Registry()
    registry.projects.add().spec.name = project
    return bytes(registry.SerializeToString())


def test_published_file_is_named_by_its_digest_and_never_replaced(s3: Any, tmp_path: Path) -> None:
    file = tmp_path / "registry.db"
    file.write_bytes(a_registry("fraud"))
    first = publish(s3, BUCKET, "registry", file)
    assert re.fullmatch(r"registry/[0-9a-f]{64}\.db", first.key)
    assert first.fresh
    again = publish(s3, BUCKET, "registry", file)
    assert (again.key, again.fresh) == (first.key, False)
    file.write_bytes(a_registry("another"))
    assert publish(s3, BUCKET, "registry", file).key != first.key


@pytest.mark.parametrize(("kind", "content"), [("model", b"x"), ("registry", b""), ("registry", None)])
def test_nothing_to_publish_is_refused(s3: Any, tmp_path: Path, kind: str, content: bytes | None) -> None:
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(MissingPrerequisite):
        publish(s3, BUCKET, kind, file)


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        ("registry", b"# Tollgate\n", "is no registry: it does not parse; run 'feast -c feature_repo apply'"),
        ("registry", a_registry(""), "is no registry: it has no project"),
        ("registry", b"\x1a\x00", "is no registry: it has no project"),
        ("pipeline", b"setup:\n\tuv sync\n", "is no pipeline: it is no JSON; publish what 'python -m retraining"),
        ("pipeline", b"[" * 100_000, "is no pipeline: it is no JSON;"),
        ("pipeline", b"[]", "is no pipeline: it is no JSON object;"),
        ("pipeline", b"{}", "is no pipeline: it has no Version and no Steps;"),
        ("pipeline", b'{"Version": "2020-12-01", "Steps": []}', "is no pipeline: it has no Steps;"),
    ],
)
def test_file_that_is_not_what_it_is_published_as_is_refused(
    s3: Any, tmp_path: Path, kind: str, content: bytes, said: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    with pytest.raises(MissingPrerequisite, match=re.escape(f"{file} {said}")):
        publish(s3, BUCKET, kind, file)
    assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0


def test_committed_pipeline_is_published(s3: Any) -> None:
    done = publish(s3, BUCKET, "pipeline", ROOT / "retraining" / "weekly.pipeline.json")
    assert done.key == f"pipelines/{done.digest}.json"


@pytest.mark.parametrize("words", [("publish", "prod", "registry", "FILE"), ("redrive", "prod")])
def test_bucket_not_yet_made_comes_with_the_command_that_makes_it(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    file = tmp_path / "registry.db"
    file.write_bytes(a_registry("fraud"))
    monkeypatch.setattr(sys, "argv", ["infra", *(str(file) if word == "FILE" else word for word in words)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = "infra: there is no bucket tollgate-prod-lake-123456789012 yet; run: python -m infra deploy prod"
    assert (ended.value.code, capsys.readouterr().err.splitlines()[-1]) == (1, f"{said} (missing_prerequisite)")


def invocation(count: int, first: int = 0) -> dict[str, Any]:
    """Return a failed invocation as Lambda keeps it in a bucket."""
    records = [
        {"kinesis": {"data": base64.b64encode(f"record {index}".encode()).decode(), "partitionKey": f"card{index % 3}"}}
        for index in range(first, first + count)
    ]
    context = {"condition": "RetryAttemptsExhausted"}
    return {"requestContext": context, "version": "1.0", "payload": json.dumps({"Records": records})}


def everything(kinesis: Any) -> list[bytes]:
    (shard,) = kinesis.list_shards(StreamName="transactions")["Shards"]
    start = kinesis.get_shard_iterator(
        StreamName="transactions", ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )
    return [record["Data"] for record in kinesis.get_records(ShardIterator=start["ShardIterator"])["Records"]]


def test_failed_invocations_go_back_whole_and_once(s3: Any) -> None:
    kinesis = boto3.client("kinesis")
    kinesis.create_stream(StreamName="transactions", ShardCount=1)
    s3.put_object(Bucket=BUCKET, Key="aws/lambda/m/s/1", Body=json.dumps(invocation(700)).encode())
    s3.put_object(Bucket=BUCKET, Key="aws/lambda/m/s/2", Body=gzip.compress(json.dumps(invocation(5, 700)).encode()))
    counts: list[int] = []
    done = redrive(s3, kinesis, bucket=BUCKET, stream="transactions", advance=counts.append)
    assert (done.objects, done.records, counts) == (2, 705, [700, 5])
    assert everything(kinesis) == [f"record {index}".encode() for index in range(705)]
    again = redrive(s3, kinesis, bucket=BUCKET, stream="transactions", advance=counts.append)
    assert (again.objects, again.records) == (0, 0)


def with_record(**record: Any) -> bytes:
    return json.dumps({"payload": {"Records": [{"kinesis": record}]}}).encode()


WHOLE = gzip.compress(json.dumps(invocation(5)).encode())
ODD = {
    "empty": b"",
    "no invocation": b"{}",
    "no text": b"\xff\xfe card-4711",
    "a list": b"[1]",
    "deep": b"[" * 100_000,
    "records that are none": b'{"payload": "{\\"Records\\": [7]}"}',
    "no base64": with_record(data="!", partitionKey="c"),
    "no partition key": with_record(data="", partitionKey=""),
    "truncated gzip": WHOLE[:-9],
    "altered gzip": WHOLE[:20] + b"\xff\xff\xff\xff" + WHOLE[24:],
    "wrong checksum": WHOLE[:-8] + b"12345678",
    "gzip of another method": WHOLE[:2] + b"\x07" + WHOLE[3:],
}


@pytest.mark.parametrize("body", ODD.values(), ids=ODD.keys())
def test_object_that_is_no_invocation_stays_and_stops_no_other(s3: Any, body: bytes) -> None:
    kinesis = boto3.client("kinesis")
    kinesis.create_stream(StreamName="transactions", ShardCount=1)
    for name, content in (("1", WHOLE), ("2", body), ("3", WHOLE)):
        s3.put_object(Bucket=BUCKET, Key=f"aws/lambda/{name}", Body=content)
    done = redrive(s3, kinesis, bucket=BUCKET, stream="transactions", advance=lambda _: None)
    assert (done.objects, done.records, len(everything(kinesis))) == (2, 10, 10)
    (said,) = done.left
    assert said.startswith(f"s3://{BUCKET}/aws/lambda/2: ")
    assert len(said) < 250
    assert "4711" not in said
    (kept,) = s3.list_objects_v2(Bucket=BUCKET, Prefix="aws/lambda/")["Contents"]
    assert (kept["Key"], kept["Size"]) == ("aws/lambda/2", len(body))


def test_command_names_what_it_left_and_ends_with_one(
    s3: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    boto3.client("kinesis").create_stream(StreamName="tollgate-dev-transactions", ShardCount=1)
    for name, content in (("1", b"{}"), ("2", WHOLE)):
        s3.put_object(Bucket=BUCKET, Key=f"aws/lambda/{name}", Body=content)
    monkeypatch.setattr(sys, "argv", ["infra", "redrive", "dev", "--json", "-"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 1
    assert f"left, no failed invocation as Lambda keeps it: s3://{BUCKET}/aws/lambda/1" in said.err
    figures = json.loads(said.out)
    assert (figures["objects"], figures["records"], len(figures["left"])) == (1, 5, 1)


class FullKinesis:
    """Refuses the record at a position the first few times."""

    def __init__(self, position: int, times: int) -> None:
        self._position, self._times = position, times
        self.kept: list[bytes] = []

    def put_records(self, **request: Any) -> dict[str, Any]:
        records = request["Records"]
        self._times -= 1
        results: list[dict[str, Any]] = [{"SequenceNumber": "1"} for _ in records]
        if self._times >= 0:
            results[self._position] = {"ErrorCode": "ProvisionedThroughputExceededException"}
        self.kept += [r["Data"] for r, result in zip(records, results, strict=True) if "ErrorCode" not in result]
        return {"Records": results}


def test_full_shard_is_tried_again_and_loses_nothing(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="aws/lambda/1", Body=json.dumps(invocation(10)).encode())
    kinesis = FullKinesis(0, 3)
    redrive(s3, kinesis, bucket=BUCKET, stream="transactions", advance=lambda _: None)
    assert set(kinesis.kept) == {f"record {index}".encode() for index in range(10)}
    s3.put_object(Bucket=BUCKET, Key="aws/lambda/2", Body=json.dumps(invocation(10)).encode())
    with pytest.raises(MissingPrerequisite, match="keeps refusing"):
        redrive(s3, FullKinesis(0, 99), bucket=BUCKET, stream="transactions", advance=lambda _: None)
    assert s3.head_object(Bucket=BUCKET, Key="aws/lambda/2")["ContentLength"] > 0


@pytest.mark.parametrize("image", sorted(sbom.LOCKS))
def test_bill_lists_every_locked_package_with_its_hashes(image: str) -> None:
    content = sbom.bill(image)
    (lock,) = sbom.LOCKS[image]
    lines = (ROOT / "requirements" / f"{lock}.txt").read_text().splitlines()
    locked = [line for line in lines if re.match(r"^[a-zA-Z0-9]", line)]
    assert len(content["components"]) == len(locked) > 5
    hashes = {item["hashes"][0]["content"] for part in content["components"] for item in part["externalReferences"]}
    assert hashes == set(re.findall(r"sha256:([0-9a-f]{64})", "\n".join(lines)))
    assert content == sbom.bill(image)


@pytest.mark.parametrize("image", sorted(sbom.LOCKS))
def test_bill_says_why_each_package_is_there(image: str) -> None:
    content = sbom.bill(image)
    needs = {item["ref"]: item["dependsOn"] for item in content["dependencies"]}
    product = content["metadata"]["component"]["bom-ref"]
    assert set(needs) == {product, *(part["bom-ref"] for part in content["components"])}
    reached, left = set[str](), [product]
    while left:
        reference = left.pop()
        if reference not in reached:
            reached.add(reference)
            left += needs[reference]
    assert reached == set(needs)
    assert any(reference.startswith("pkg:pypi/numba@") for reference in needs[product])


def test_unknown_image_and_missing_lock_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisite, match="known are inference, job, lambda"):
        sbom.bill("desktop")
    with pytest.raises(MissingPrerequisite, match=r"serving\.txt is missing"):
        sbom.bill("inference", tmp_path)
    with pytest.raises(MissingPrerequisite, match="is there already"):
        trees.build("inference", tmp_path)


class Recorded:
    """A deployer, a scaling and quotas that keep what they were asked."""

    def __init__(self, served: Served, notes: dict[str, str]) -> None:
        self._served = served
        self._notes = notes
        self.done: list[str] = []

    def deploy(self, package: str) -> Rollout:
        self.done.append(f"deploy {package}")
        return Rollout("started", "new", "old")

    def served(self) -> Served:
        return self._served

    def notes(self) -> dict[str, str]:
        return self._notes

    def note(self, **notes: str) -> None:
        self._notes |= notes

    def package_of(self, config: str) -> str:
        return f"package of {config}"

    def mark(self, package: str, outcome: str, reason: str = "") -> None:
        self.done.append(f"{package} {outcome} {reason}".rstrip())

    def advice(self) -> tuple[str, ...]:
        return ("too small",)

    def register(self, plan: Any, *, now_ms: int) -> None:
        self.done.append(f"scale {plan.limits.min_instances}..{plan.limits.max_instances}")


SETTLED = {"detail-type": "SageMaker Endpoint State Change", "id": "one"}


def acted(
    event: dict[str, Any], served: Served, notes: dict[str, str] | None = None
) -> tuple[dict[str, str], list[str]]:
    recorded: Any = Recorded(served, {} if notes is None else notes)
    try:
        done = act(event, Wired(recorded, recorded, recorded), read_environment("dev"), now_ms=0)
    except (RolledBack, EndpointStuck) as error:
        done = {"told": str(error)}
    return done, recorded.done


def approval(*fields: str) -> dict[str, Any]:
    detail: dict[str, Any] = {"ModelPackageArn": "arn"}
    if fields:
        detail["UpdatedModelPackageFields"] = list(fields)
    return {"detail-type": "SageMaker Model Package State Change", "detail": detail}


@pytest.mark.parametrize("fields", [(), ("ModelApprovalStatus",), ("ApprovalDescription", "ModelApprovalStatus")])
def test_approval_starts_a_rollout_and_notes_quotas(
    fields: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    done, asked = acted(approval(*fields), Served("InService", "old"))
    assert (done["event"], done["step"], asked) == ("rollout_begun", "started", ["deploy arn"])
    noted = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert noted == [{"event": "quota_noted", "advice": "too small"}, done]


def test_change_of_an_approved_package_is_no_approval() -> None:
    done, asked = acted(approval("CustomerMetadataProperties"), Served("InService", "old"))
    assert (done, asked) == ({"event": "approved_before"}, [])


def test_endpoint_that_serves_anew_is_scaled_and_its_package_marked() -> None:
    notes = {"tollgate:rolled-to": "new", "tollgate:scaled": "old"}
    _, asked = acted(SETTLED, Served("InService", "new"), notes)
    assert asked == ["scale 2..4", "package of new deployed"]
    assert notes["tollgate:scaled"] == "new"


def test_change_of_size_leaves_a_minimum_that_was_raised_by_hand() -> None:
    notes = {"tollgate:rolled-to": "new", "tollgate:scaled": "new"}
    assert acted(SETTLED, Served("InService", "new"), notes)[1] == ["package of new deployed"]


def test_rollout_that_came_back_is_marked_and_told_once_however_often_it_is_tried() -> None:
    notes = {"tollgate:rolled-to": "new", "tollgate:scaled": "old"}
    served = Served("InService", "old", failure="no ping")
    for _ in range(3):  # Lambda's own attempts at one event: only the last puts it into the queue
        done, asked = acted(SETTLED, served, notes)
        assert done == {"told": "new came back, old serves: no ping"}
        assert asked == ["package of new rolled back no ping"]
    assert acted(SETTLED | {"id": "two"}, served, notes)[0]["event"] == "rollout_settled"
    notes["tollgate:rolled-to"] = "newer"
    assert acted(SETTLED | {"id": "three"}, served, notes)[0] == {"told": "newer came back, old serves: no ping"}


@pytest.mark.parametrize("status", ["Failed", "UpdateRollbackFailed", "OutOfService"])
def test_endpoint_that_serves_nothing_or_two_things_is_not_scaled_and_told(status: str) -> None:
    done, asked = acted(SETTLED, Served(status, "new", failure="no"))
    assert (done, asked) == ({"told": f"the endpoint ended as {status}: no"}, [])


@pytest.mark.parametrize("status", ["Updating", "RollingBack", "None"])
def test_endpoint_that_moves_again_is_left_to_the_next_event(status: str) -> None:
    done, asked = acted(SETTLED, Served(status, "old"))
    assert (done["event"], asked) == ("rollout_settled", [])


def test_other_event_is_refused() -> None:
    with pytest.raises(MissingPrerequisite, match="'Scheduled Event'"):
        acted({"detail-type": "Scheduled Event"}, Served("InService"))


def test_function_without_an_environment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INFRA_ENVIRONMENT", raising=False)
    with pytest.raises(InvalidEnvironment, match="known are dev, prod"):
        lambda_handler({}, None)
