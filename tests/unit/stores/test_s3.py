"""Objects of S3: conditions are kept, waits and sizes are bounded, and whatever else happens is one kind of error."""

import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from stores import s3
from stores.credentials import NoCredentials
from stores.s3 import Bucket, Found, Listed, ObjectTooLarge, S3Unavailable
from tests.support.buckets import FakeBucket, start_bucket, tag
from tests.support.emulators import aws_client, aws_environment, free_port, start_moto

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


@pytest.fixture
def fake() -> Iterator[FakeBucket]:
    with start_bucket() as bucket:
        yield bucket


@pytest.fixture
def ours(fake: FakeBucket) -> Iterator[Bucket]:
    with closing(bucket_of(fake.endpoint)) as bucket:
        yield bucket


def bucket_of(endpoint: str, name: str = "lists") -> Bucket:
    return Bucket(name, "eu-west-1", endpoint, environ=KEYS)


def test_what_is_known_already_is_answered_without_its_bytes(fake: FakeBucket, ours: Bucket) -> None:
    fake.objects["a b/é.json"] = b"x" * 1000
    found = ours.read("a b/é.json", most_bytes=1000)
    assert found == Found(b"x" * 1000, tag(b"x" * 1000))
    assert ours.read("a b/é.json", most_bytes=1000, unless=found.etag) == Found(b"", found.etag)
    assert (fake.sent, [status for *_, status in fake.asked]) == (1000, [200, 304])
    assert ours.read("none", most_bytes=1) is None


def test_a_write_loses_against_whoever_was_faster(fake: FakeBucket, ours: Bucket) -> None:
    assert ours.write("k", b"1", over="") is True
    assert ours.write("k", b"2", over="") is False
    assert ours.write("k", b"2", over=tag(b"1")) is True
    assert ours.write("k", b"3", over=tag(b"1")) is False
    assert fake.objects == {"k": b"2"}
    del fake.objects["k"]
    assert ours.write("k", b"3", over=tag(b"2")) is False


def test_a_folder_is_what_lies_right_below(fake: FakeBucket, ours: Bucket) -> None:
    fake.objects |= {"f/b.json": b"22", "f/a&.json": b"1", "f/below/c.json": b"", "g.json": b""}
    assert ours.folder("f/") == [Listed("f/a&.json", tag(b"1"), 1), Listed("f/b.json", tag(b"22"), 2)]
    assert ours.folder("none/") == []
    fake.objects |= {f"many/{number}": b"" for number in range(1001)}
    with pytest.raises(ObjectTooLarge, match="more than 1000 objects"):
        ours.folder("many/")


def test_more_than_may_be_read_is_not_read(fake: FakeBucket, ours: Bucket) -> None:
    fake.objects["k"] = b"x" * 50
    with pytest.raises(ObjectTooLarge) as refused:
        ours.read("k", most_bytes=49)
    assert refused.value.etag == tag(b"x" * 50)
    assert ours.read("k", most_bytes=50) is not None


@pytest.mark.parametrize(("status", "said"), [(403, "403 InternalError"), (503, "503 InternalError"), (-1, "answer")])
def test_a_refusal_and_a_lost_answer_are_unavailability_and_the_next_question_is_asked_anew(
    fake: FakeBucket, ours: Bucket, status: int, said: str
) -> None:
    fake.fail = status
    for ask in (lambda: ours.read("k", most_bytes=1), lambda: ours.folder("f/"), lambda: ours.write("k", b"", over="")):
        with pytest.raises(S3Unavailable, match=said):
            ask()
    fake.fail = 0
    assert ours.write("k", b"1", over="") is True


def test_nobody_there_another_bucket_and_no_credentials_are_said(fake: FakeBucket) -> None:
    with pytest.raises(S3Unavailable, match="ConnectionRefusedError"):
        bucket_of(f"http://127.0.0.1:{free_port()}").read("k", most_bytes=1)
    other = bucket_of(fake.endpoint, "other")
    with pytest.raises(S3Unavailable, match="404 NoSuchBucket for bucket other"):
        other.read("k", most_bytes=1)
    with pytest.raises(S3Unavailable, match="404 NoSuchBucket"):
        other.write("k", b"", over='"1"')
    with pytest.raises(NoCredentials):
        Bucket("lists", "eu-west-1", fake.endpoint, environ={}).read("k", most_bytes=1)


def test_a_silent_bucket_is_left_in_time(fake: FakeBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "WAIT_S", 0.2)
    fake.wait_s = 2.0
    begun = time.monotonic()
    with pytest.raises(S3Unavailable, match="TimeoutError"):
        bucket_of(fake.endpoint).read("k", most_bytes=1)
    assert time.monotonic() - begun < 1.5


def test_an_answer_that_never_ends_is_left_in_time(fake: FakeBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "ANSWER_S", -1.0)
    fake.objects["k"] = b"x"
    with pytest.raises(S3Unavailable, match="TimeoutError"):
        bucket_of(fake.endpoint).read("k", most_bytes=1)


@pytest.mark.parametrize(
    ("name", "region", "host", "path"),
    [
        ("lake", "eu-west-1", "lake.s3.eu-west-1.amazonaws.com", "/k"),
        ("lake", "cn-north-1", "lake.s3.cn-north-1.amazonaws.com.cn", "/k"),
        ("my.lake", "eu-west-1", "s3.eu-west-1.amazonaws.com", "/my.lake/k"),
    ],
)
def test_amazons_own_address_is_one_that_its_certificate_covers(name: str, region: str, host: str, path: str) -> None:
    ours = Bucket(name, region, "", environ=KEYS)
    assert (ours._connection.host, ours._address("k")) == (host, path)


def test_moto_answers_as_the_bucket_of_these_tests_does() -> None:
    with start_moto() as endpoint, aws_client("s3", endpoint) as client:
        client.create_bucket(Bucket="lists", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        ours = Bucket("lists", "eu-west-1", endpoint, environ=aws_environment())
        assert ours.read("f/a.json", most_bytes=9) is None
        assert ours.write("f/a.json", b"1", over="")
        assert not ours.write("f/a.json", b"2", over="")
        assert ours.write("f/a.json", b"2", over=tag(b"1"))
        assert not ours.write("f/a.json", b"3", over=tag(b"1"))
        assert ours.folder("f/") == [Listed("f/a.json", tag(b"2"), 1)]
        assert ours.folder("") == []
        assert ours.read("f/a.json", most_bytes=9, unless=tag(b"2")) == Found(b"", tag(b"2"))
        assert ours.read("f/a.json", most_bytes=9, unless=tag(b"1")) == Found(b"2", tag(b"2"))
        ours.close()
