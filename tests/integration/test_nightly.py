"""The nightly job as its image runs it: landed payments reach log, profiles and online store; the registry stays."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from infra.publishing import publish
from infra.trees import ROOMS
from stores.files import Location
from stores.layout import entity_key
from streaming.folders import BucketFolder
from streaming.offline import TransactionLog
from tests.support.acl import add_users
from tests.support.emulators import aws_client, aws_environment, start_moto, start_valkey, valkey_client
from tests.support.lakes import DAY_MS, random_payments
from training.profiles import last_day

ROOT = Path(__file__).resolve().parents[2]
BUCKET = "tollgate-dev-lake"


@contextmanager
def online_store(port: int) -> Iterator[Any]:
    """Yield a client that may do everything."""
    with valkey_client(port) as client:
        yield client


@dataclass(frozen=True)
class Night:
    """A bucket with landed payments and a published registry, and how the job is started."""

    s3: Any
    folder: Path
    variables: dict[str, str]
    registry: str

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [str(self.folder / "nightly"), *words]
        return subprocess.run(command, env=self.variables, capture_output=True, text=True, check=False)

    def objects(self, prefix: str) -> dict[str, str]:
        listed = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return {item["Key"]: item["ETag"] for item in listed}


def as_in_the_image(folder: Path) -> Path:
    """Lay the rooms out beside the script, as the Dockerfile copies them."""
    folder.mkdir()
    for room in ROOMS["job"]:
        (folder / room).symlink_to(ROOT / room)
    shutil.copy(ROOT / "infra" / "images" / "job" / "nightly", folder / "nightly")
    return folder


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    paid = random_payments(7, 200, days=20)
    ahead = int(time.time() * 1000) - DAY_MS - paid[-1].event_time_ms
    with start_moto() as endpoint, start_valkey() as port, aws_client("s3", endpoint) as s3:
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        with online_store(port) as valkey:
            add_users(valkey)
        log = TransactionLog(BucketFolder(s3, BUCKET))
        payments = [structs.replace(payment, event_time_ms=payment.event_time_ms + ahead) for payment in paid]
        log.accept((payment, payment.event_time_ms + 5) for payment in payments)
        log.flush("s-1")
        place = {
            **os.environ,
            **aws_environment(),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "TOLLGATE_AWS_ENDPOINT": endpoint,
            "TOLLGATE_REDIS_PORT": str(port),
            "TOLLGATE_REDIS_HOST": "127.0.0.1",
            "TOLLGATE_REDIS_USERNAME": "jobs",
            "TOLLGATE_REDIS_PASSWORD": "work",
            "TOLLGATE_BUCKET": BUCKET,
            "FRAUD_LAKE": f"s3://{BUCKET}",
        }
        made = applied(tmp_path, place)
        registry = publish(s3, BUCKET, "registry", made).key
        variables = place | {"TOLLGATE_ENVIRONMENT": "aws", "FRAUD_REGISTRY": f"s3://{BUCKET}/{registry}"}
        yield Night(s3, as_in_the_image(tmp_path / "app"), variables, registry)


def applied(folder: Path, place: dict[str, str]) -> Path:
    """Make the registry as continuous integration does: once, on disk, for the bucket's addresses."""
    made = folder / "registry.db"
    text = (ROOT / "feature_repo" / "feature_store.local.yaml").read_text(encoding="utf-8")
    config = folder / "ci.yaml"
    config.write_text(text.replace("../build/demo/registry.db", str(made)), encoding="utf-8")
    feast = str(Path(sys.executable).with_name("feast"))
    command = [feast, "-c", str(ROOT / "feature_repo"), "-f", str(config), "apply"]
    done = subprocess.run(command, env=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return made


def test_a_night_brings_landed_payments_to_log_profiles_and_store_and_leaves_the_registry(night: Night) -> None:
    published = night.objects("registry/")
    assert list(published) == [night.registry]
    done = night.run()
    assert done.returncode == 0, done.stderr[-2000:]
    assert not night.objects("landing/")
    assert set(night.objects("profiles/")) == {"profiles/card/part-0.parquet", "profiles/merchant/part-0.parquet"}
    endpoint = night.variables["TOLLGATE_AWS_ENDPOINT"]
    assert last_day(Location(f"s3://{BUCKET}", endpoint)) >= "2026"
    with online_store(int(night.variables["TOLLGATE_REDIS_PORT"])) as valkey:
        cards = [entity_key("card_id", f"c{number}", "fraud") for number in range(10)]
        assert sum(valkey.exists(key) for key in cards) >= 8
        before = valkey.dbsize()
        refused = {entry["object"] for entry in valkey.acl_log()}
        assert refused <= {"client|setinfo"}, "beside its name, which the client tells and may keep to itself"
        assert night.objects("registry/") == published
        body = night.s3.get_object(Bucket=BUCKET, Key=night.registry)["Body"].read()
        assert hashlib.sha256(body).hexdigest() in night.registry
        assert night.run().returncode == 0, "a night can be run again"
        assert valkey.dbsize() == before
        valkey.flushall()
        assert night.run("everything").returncode == 0
        assert valkey.dbsize() > before, "devices and addresses have states and no profiles"
        assert sum(valkey.hlen(key) > 0 for key in cards) == 10
        assert night.objects("registry/") == published


def test_a_registry_of_other_bytes_than_its_name_stops_the_night_before_it_writes(night: Night) -> None:
    body = night.s3.get_object(Bucket=BUCKET, Key=night.registry)["Body"].read()
    night.s3.put_object(Bucket=BUCKET, Key=night.registry, Body=body + b"\x00")
    done = night.run()
    assert done.returncode != 0
    assert "holds other bytes than its name says" in done.stderr + done.stdout
    with online_store(int(night.variables["TOLLGATE_REDIS_PORT"])) as valkey:
        assert valkey.dbsize() == 0
