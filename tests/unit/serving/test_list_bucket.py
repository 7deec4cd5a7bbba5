"""Lists in S3: what has not changed is not read, and S3 that is gone or talks nonsense leaves the lists in force."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from fraud.errors import InvalidSetting
from serving import list_bucket
from serving.list_bucket import ListBucket, open_address
from serving.list_reload import ListReloader
from serving.lists import InvalidList, ListEntry, Lists
from serving.metrics import Metrics
from tests.support.buckets import FakeBucket, start_bucket
from tests.support.emulators import free_port
from tests.support.scorers import await_true

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
FILE = "s3://lists/lists/entries.json"
FOLDER = "s3://lists/lists/"


def content(*keys: str) -> bytes:
    entries = [
        ListEntry(entity="card", key=key, list="block", reason="r", added_by="a", added_ms=1, expires_ms=2**50)
        for key in keys
    ]
    return msgspec.json.encode({"format": 1, "entries": entries})


class Watched:
    """A reloader and what it handed over."""

    def __init__(self, address: str, endpoint: str, environ: dict[str, str] = KEYS) -> None:
        self.taken: list[Lists] = []
        self.metrics = Metrics()
        self.source = ListBucket(open_address(address, region="eu-west-1", endpoint=endpoint, environ=environ))
        self.reloader = ListReloader(self.source, take=self.taken.append, metrics=self.metrics)

    @property
    def listed(self) -> set[str]:
        return set(self.taken[-1].block.get("card", {})) if self.taken else set()

    @property
    def outdated(self) -> bool:
        rendered = self.metrics.render().decode().splitlines()
        return "tollgate_lists_outdated 1" in rendered

    @property
    def refused(self) -> float:
        return self.metrics.lists_refused.total()


@pytest.fixture
def fake() -> Iterator[FakeBucket]:
    with start_bucket() as bucket:
        yield bucket


@pytest.fixture(params=[FILE, FOLDER])
def watched(fake: FakeBucket, request: pytest.FixtureRequest) -> Watched:
    return Watched(request.param, fake.endpoint)


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_change_is_taken_and_what_has_not_changed_costs_one_question_and_no_download(
    fake: FakeBucket, watched: Watched
) -> None:
    fake.objects["lists/entries.json"] = content("c1")
    watched.reloader.look()
    first, sent = len(fake.asked), fake.sent
    for _ in range(3):
        watched.reloader.look()
    assert len(fake.asked) == first + 3
    assert (fake.sent - sent) / 3 < 300
    assert (len(watched.taken), watched.listed, watched.outdated) == (1, {"c1"}, False)
    fake.objects["lists/entries.json"] = content("c1", "c2")
    watched.reloader.look()
    assert (len(watched.taken), watched.listed) == (2, {"c1", "c2"})


def test_of_a_folder_only_files_that_changed_are_read_and_only_files_of_lists(fake: FakeBucket) -> None:
    watched = Watched(FOLDER, fake.endpoint)
    watched.reloader.look()
    assert (watched.listed, watched.outdated, watched.refused) == (set(), False, 0)
    fake.objects |= {"lists/a.json": content("a"), "lists/b.json": content("b")}
    fake.objects |= {"lists/.c.json": b"{", "lists/notes.txt": b"x", "lists/below/d.json": b"{", "other/e.json": b"{"}
    watched.reloader.look()
    assert watched.listed == {"a", "b"}
    fake.asked.clear()
    fake.objects["lists/b.json"] = content("b", "b2")
    watched.reloader.look()
    assert watched.listed == {"a", "b", "b2"}
    assert [path for _, path, _ in fake.asked][1:] == ["/lists/lists/b.json"]
    del fake.objects["lists/a.json"]
    watched.reloader.look()
    assert watched.listed == {"b", "b2"}


def test_a_malformed_change_keeps_the_lists_in_force_and_is_said_and_counted_once(
    fake: FakeBucket, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    fake.objects["lists/entries.json"] = content("c1")
    watched.reloader.look()
    fake.objects["lists/entries.json"] = b"{" * 500
    watched.reloader.look()
    sent = fake.sent
    for _ in range(3):
        watched.reloader.look()
    assert (fake.sent - sent) / 3 < 300
    assert (watched.listed, watched.outdated, watched.refused) == ({"c1"}, True, 1)
    assert events(caplog) == ["lists_refused"]
    assert "s3://lists/lists/entries.json is no file of lists" in str(vars(caplog.records[0])["fields"]["reason"])
    fake.objects["lists/entries.json"] = content("c1")
    watched.reloader.look()
    assert (len(watched.taken), watched.outdated) == (2, False)


@pytest.mark.parametrize("status", [403, 503, -1])
def test_an_outage_keeps_the_lists_in_force_and_is_said_and_counted_once_however_long_it_lasts(
    fake: FakeBucket, watched: Watched, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tollgate.serving")
    fake.objects["lists/entries.json"] = content("c1")
    watched.reloader.look()
    fake.fail = status
    for _ in range(list_bucket.ListBucket.patience - 1):
        watched.reloader.look()
    assert (watched.outdated, watched.refused) == (False, 0)
    for _ in range(4):
        watched.reloader.look()
    assert (watched.listed, watched.outdated, watched.refused) == ({"c1"}, True, 1)
    fake.fail = 0
    watched.reloader.look()
    assert (watched.listed, watched.outdated, watched.refused, len(watched.taken)) == ({"c1"}, False, 1, 1)
    assert events(caplog) == ["lists_loaded", "lists_refused", "lists_reached"]


def test_an_outage_does_not_make_a_malformed_list_a_good_one(fake: FakeBucket, watched: Watched) -> None:
    fake.objects["lists/entries.json"] = content("c1")
    watched.reloader.look()
    fake.objects["lists/entries.json"] = b"{"
    watched.reloader.look()
    fake.fail = 503
    for _ in range(5):
        watched.reloader.look()
    fake.fail = 0
    watched.reloader.look()
    assert (watched.outdated, watched.refused, watched.listed) == (True, 2, {"c1"})


def test_a_file_that_is_not_there_is_refused_once_and_taken_when_it_comes(fake: FakeBucket) -> None:
    watched = Watched(FILE, fake.endpoint)
    for _ in range(3):
        watched.reloader.look()
    assert (watched.outdated, watched.refused) == (True, 1)
    with pytest.raises(InvalidList, match=f"lists add --file {FILE}"):
        Watched(FILE, fake.endpoint).source.look()
    fake.objects["lists/entries.json"] = content("c1")
    watched.reloader.look()
    assert (watched.listed, watched.outdated) == ({"c1"}, False)
    del fake.objects["lists/entries.json"]
    for _ in range(3):
        watched.reloader.look()
    assert (watched.listed, watched.outdated, watched.refused) == ({"c1"}, True, 2)


def test_more_than_may_be_read_is_refused_once_and_not_read(
    fake: FakeBucket, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_bucket, "MAX_BYTES", 1000)
    fake.objects["lists/entries.json"] = content("c1")
    watched.reloader.look()
    fake.objects["lists/entries.json"] = content(*"abcdefghijklmn")
    for _ in range(3):
        watched.reloader.look()
    assert (watched.listed, watched.outdated, watched.refused) == ({"c1"}, True, 1)


def test_files_that_are_too_large_together_are_refused_once_and_none_is_read(
    fake: FakeBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_bucket, "MAX_BYTES", 1000)
    watched = Watched(FOLDER, fake.endpoint)
    fake.objects |= {f"lists/{name}.json": content(*"abcdef") for name in "xy"}
    assert all(len(held) < 1000 for held in fake.objects.values())
    for _ in range(3):
        watched.reloader.look()
    assert (watched.listed, watched.outdated, watched.refused) == (set(), True, 1)
    assert {path.partition("?")[0] for _, path, _ in fake.asked} == {"/lists/"}


def test_too_many_files_are_refused_once(fake: FakeBucket) -> None:
    watched = Watched(FOLDER, fake.endpoint)
    fake.objects |= {f"lists/{number}.json": content() for number in range(1001)}
    for _ in range(3):
        watched.reloader.look()
    assert (watched.outdated, watched.refused) == (True, 1)


def test_a_start_does_not_wait_for_s3_and_says_that_nothing_is_listed(
    fake: FakeBucket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ListBucket, "first_wait_s", 0.2)
    monkeypatch.setattr(ListBucket, "poll_s", 0.05)
    fake.objects["lists/entries.json"] = content("c1")
    fake.wait_s = 1.0
    watched = Watched(FILE, fake.endpoint)
    begun = time.monotonic()
    watched.reloader.start()
    assert time.monotonic() - begun < 0.9
    assert (watched.listed, watched.outdated) == (set(), True)
    fake.wait_s = 0.0
    await_true(lambda: watched.listed == {"c1"})
    assert watched.outdated is False
    watched.reloader.close()


@pytest.mark.parametrize("environ", [KEYS, {}])
def test_a_start_without_s3_or_without_credentials_is_said_and_counted_once(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ListBucket, "poll_s", 0.02)
    watched = Watched(FILE, f"http://127.0.0.1:{free_port()}", environ)
    watched.reloader.start()
    assert (watched.outdated, watched.refused) == (True, 1)
    time.sleep(0.2)
    watched.reloader.close()
    assert (watched.refused, events(caplog)) == (1, ["lists_refused"])


@pytest.mark.parametrize("address", ["s3://", "s3://b", "s3://bucket", "s3://bucket/", "s3:bucket/k", "s3://Bucket/k"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidSetting, match="neither s3://bucket/key nor"):
        open_address(address, region="eu-west-1", endpoint="", environ={})


def test_file_taken_away_between_list_and_read_is_left_out(fake: FakeBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(FOLDER, fake.endpoint)
    fake.objects |= {"lists/a.json": content("a"), "lists/b.json": content("b")}
    listing = FakeBucket._listing

    def then_gone(bucket: FakeBucket, prefix: str) -> Any:
        said = listing(bucket, prefix)
        bucket.objects.pop("lists/b.json", None)
        return said

    monkeypatch.setattr(FakeBucket, "_listing", then_gone)
    watched.reloader.look()
    assert (watched.listed, watched.outdated) == ({"a"}, False)
