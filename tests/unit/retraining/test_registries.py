"""One contract, two registries: a folder, and SageMaker's Model Registry with a bucket."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from fraud.errors import CorruptBundle
from retraining.addresses import open_registry
from retraining.errors import InvalidAddress, NoSuchVersion, NothingToRollBack, RegistryBusy, RegistryUnreachable
from retraining.registry import ModelRegistry, Registry
from retraining.sagemaker_registry import SageMakerRegistry
from retraining.verdict import Check, Verdict
from tests.support.bundles import bundle_files
from tests.support.hosting import sagemaker_hosting

GROUP, BUCKET, IMAGE = "tollgate-dev-scorer", "tollgate-lake", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/i@sha256:1"
FINE = Verdict((Check("fine", passed=True, evidence="it is"),))
POOR = Verdict((Check("poor", passed=False, evidence="it is not"),))


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws(), sagemaker_hosting(monkeypatch):
        region = {"LocationConstraint": "eu-west-1"}
        boto3.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=region)
        boto3.client("sagemaker").create_model_package_group(ModelPackageGroupName=GROUP)
        yield


def on_aws(approval: str = "automatic") -> SageMakerRegistry:
    registry = open_registry(f"sagemaker:{GROUP}", bucket=BUCKET, image=IMAGE, approval=approval)
    assert isinstance(registry, SageMakerRegistry)
    return registry


@pytest.fixture(params=["file", "sagemaker"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> ModelRegistry:
    if request.param == "file":
        return open_registry(f"file:{tmp_path / 'models'}")
    request.getfixturevalue("aws")
    return on_aws()


def damage(registry: ModelRegistry, version: str) -> None:
    if isinstance(registry, Registry):
        path = registry.folder / "versions" / version / "policy.json"
        path.write_bytes(path.read_bytes().replace(b"0.", b"1.", 1))
        return
    key = f"models/{GROUP}/{version}/model.tar.gz"
    s3 = boto3.client("s3")
    whole = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    s3.put_object(Bucket=BUCKET, Key=key, Body=whole[: len(whole) // 2])


def promoted(registry: ModelRegistry, *seeds: int) -> list[str]:
    versions = []
    for week, seed in enumerate(seeds):
        versions.append(registry.add(bundle_files(seed)).version)
        registry.promote(versions[-1], FINE, as_of_ms=week)
    return versions


def test_an_empty_registry_has_no_champion_and_no_history(registry: ModelRegistry) -> None:
    assert registry.champion() is None
    assert registry.champion_version() is None
    assert registry.versions() == registry.served() == []
    assert registry.history() == []
    with pytest.raises(NothingToRollBack, match="no champion before the first"):
        registry.rollback()


def test_the_same_bundle_is_kept_once_and_comes_back_whole(registry: ModelRegistry) -> None:
    first, again = registry.add(bundle_files(1)), registry.add(bundle_files(1))
    assert first.version == again.version
    assert registry.versions() == [first.version]
    assert registry.version(first.version).features == first.features
    assert registry.champion_version() is None


def test_promotions_and_refusals_are_written_down_with_their_checks(registry: ModelRegistry) -> None:
    first, second = promoted(registry, 1, 2)
    worse = registry.add(bundle_files(3)).version
    registry.refuse(worse, POOR, as_of_ms=9)
    champion = registry.champion()
    assert champion is not None
    assert champion.version == registry.champion_version() == second
    assert registry.served() == [first, second]
    events = registry.history()
    assert [(event["event"], event["version"], event["as_of_ms"]) for event in events] == [
        ("promoted", first, 0),
        ("promoted", second, 1),
        ("refused", worse, 9),
    ]
    assert events[-1]["checks"] == [{"name": "poor", "passed": False, "evidence": "it is not"}]


def test_rollback_walks_back_and_a_later_promotion_goes_on_from_there(registry: ModelRegistry) -> None:
    first, second, third = promoted(registry, 1, 2, 3)
    assert (registry.rollback(), registry.champion_version()) == (second, second)
    assert (registry.rollback(), registry.served()) == (first, [first])
    with pytest.raises(NothingToRollBack, match=f"no champion before {first}"):
        registry.rollback()
    with pytest.raises(NothingToRollBack, match="champion already"):
        registry.rollback(first)
    registry.promote(third, FINE, as_of_ms=7)
    assert registry.served() == [first, third]
    assert registry.history()[-2] == {"event": "rolled_back", "version": first, "from_version": second}


def test_a_version_that_was_never_added_is_named_with_those_there_are(registry: ModelRegistry) -> None:
    (first,) = promoted(registry, 1)
    for change in (lambda: registry.promote("nothing", FINE, as_of_ms=0), lambda: registry.rollback("nothing")):
        with pytest.raises(NoSuchVersion, match=f"kept are {first}"):
            change()
    assert registry.champion_version() == first


def test_damage_is_refused_where_it_is_read_and_the_champion_stays(registry: ModelRegistry) -> None:
    first, second = promoted(registry, 1, 2)
    damage(registry, first)
    for change in (registry.rollback, lambda: registry.version(first), lambda: registry.add(bundle_files(1))):
        with pytest.raises(CorruptBundle):
            change()
    assert registry.champion_version() == second


def test_a_second_holder_of_the_lock_is_told_who_has_it(registry: ModelRegistry) -> None:
    with registry.locked(), pytest.raises(RegistryBusy, match=r"process \d+"), registry.locked():
        pytest.fail("two held the lock")
    with registry.locked():
        pass


@pytest.mark.usefixtures("aws")
def test_a_package_carries_image_lineage_verdict_and_where_its_report_lies() -> None:
    registry = on_aws()
    (version,) = promoted(registry, 1)
    (package,) = registry.packages()
    described = boto3.client("sagemaker").describe_model_package(ModelPackageName=package.arn)
    container = described["InferenceSpecification"]["Containers"][0]
    folder = f"s3://{BUCKET}/models/{GROUP}/{version}"
    assert container["Image"] == IMAGE
    assert container["ModelDataUrl"] == f"{folder}/model.tar.gz"
    assert described["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"] == f"{folder}/verdict.json"
    assert described["CustomerMetadataProperties"] == {
        "version": version,
        "seed": "1",
        "verdict": "passed",
        "as_of_ms": "0",
    }
    assert package.status == described["ModelApprovalStatus"] == "Approved"


@pytest.mark.usefixtures("aws")
def test_under_manual_approval_a_challenger_waits_and_an_approval_by_hand_makes_it_champion() -> None:
    (first,) = promoted(on_aws(), 1)
    registry = on_aws("manual")
    (second,) = promoted(registry, 2)
    assert registry.champion_version() == first
    assert registry.history()[-1]["event"] == "passed"
    waiting = registry.packages()[-1]
    assert (waiting.version, waiting.status) == (second, "PendingManualApproval")
    boto3.client("sagemaker").update_model_package(ModelPackageArn=waiting.arn, ModelApprovalStatus="Approved")
    assert registry.served() == [first, second]


@pytest.mark.usefixtures("aws")
def test_a_lock_whose_holder_died_long_ago_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = on_aws()
    died = registry.locked()
    died.__enter__()  # never given back while this name holds it
    with pytest.raises(RegistryBusy), registry.locked():
        pytest.fail("two held the lock")
    monkeypatch.setattr("retraining.bucket.LOCK_LIFE_S", -1.0)
    with registry.locked():
        pass


@pytest.mark.usefixtures("aws")
def test_two_writers_of_one_event_number_do_not_both_write(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = on_aws()
    promoted(registry, 1)
    monkeypatch.setattr("retraining.bucket.ModelBucket._names", lambda _: [])
    with pytest.raises(RegistryBusy, match="just written by somebody else"):
        promoted(registry, 2)


def test_a_registry_that_does_not_answer_is_one_fact(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    registry: Any = on_aws()
    for ask in (registry.champion, registry.history, registry.served, lambda: registry.add(bundle_files(1))):
        with pytest.raises(RegistryUnreachable) as caught:
            ask()
        assert caught.value.retryable
    with pytest.raises(RegistryUnreachable), registry.locked():
        pytest.fail("nobody can hold it")


@pytest.mark.parametrize("address", ["", "file:", "sagemaker:", "s3://models", f"sagemaker:{GROUP}"])
def test_an_address_that_names_no_registry_is_refused(address: str) -> None:
    with pytest.raises(InvalidAddress):
        open_registry(address)


def test_a_machine_that_knows_no_region_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    boto3.DEFAULT_SESSION = None
    with pytest.raises(RegistryUnreachable, match="region"):
        on_aws()
