"""Lists in S3 are changed on a condition: two writers at once lose nothing, and nobody's file is written over."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from serving import list_object
from serving.__main__ import main
from serving.lists import ListEntry, decode_entries, encode_entries
from tests.support.buckets import FakeBucket, start_bucket
from tests.support.emulators import aws_environment, free_port
from tests.support.scorers import ROOT

FILE = "s3://lists/lists/entries.json"
FOLDER = "s3://lists/lists/"
KEY = "lists/entries.json"
WHAT = ("--entity", "card", "--key", "c1", "--list", "block")
ADD = ("lists", "add", *WHAT, "--reason", "stolen", "--by", "ann")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBucket]:
    monkeypatch.setattr(list_object, "PAUSE_S", 0.0)
    with start_bucket() as bucket:
        monkeypatch.setenv("TOLLGATE_AWS_ENDPOINT", bucket.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        yield bucket


def entry(key: str) -> ListEntry:
    return ListEntry(entity="card", key=key, list="block", reason="r", added_by="a", added_ms=1, expires_ms=2**42)


def keys(fake: FakeBucket, key: str = KEY) -> list[str]:
    return [entry.key for entry in decode_entries(fake.objects[key], of=key)]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def answer(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("place", [FILE, FOLDER])
def test_an_entry_is_added_shown_replaced_and_removed(
    fake: FakeBucket, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*ADD, "--file", place, "--json", "-") == 0
    added = answer(capsys)
    assert (added["replaced"], keys(fake)) == (False, ["c1"])
    assert run("lists", "show", "--file", place, "--json", "-") == 0
    assert answer(capsys)["entries"] == [added["entry"]]
    assert run(*ADD, "--file", place, "--json", "-") == 0
    assert (answer(capsys)["replaced"], keys(fake)) == (True, ["c1"])
    remove = ("lists", "remove", "--file", place, *WHAT)
    assert [run(*remove), run(*remove)] == [0, 1]
    assert capsys.readouterr().out == "removed\nnot on the block list\n"
    assert keys(fake) == []
    assert list(fake.objects) == [KEY]


def test_the_setting_names_the_place_and_a_folder_shows_the_files_of_others_too(
    fake: FakeBucket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOLLGATE_LISTS", FOLDER)
    fake.objects["lists/feed.json"] = encode_entries((entry("c7"),))
    assert run(*ADD) == 0
    assert run("lists", "show") == 0
    said = capsys.readouterr().out
    assert "block  card  c1" in said
    assert "block  card  c7" in said
    assert said.endswith("2 entries\n")
    assert keys(fake, "lists/feed.json") == ["c7"]


def test_who_may_list_the_folder_alone_can_begin_it(fake: FakeBucket) -> None:
    fake.hides = True
    assert [run(*ADD, "--file", FOLDER), run(*ADD, "--file", FOLDER)] == [0, 0]
    assert run("lists", "show", "--file", FOLDER) == 0
    assert keys(fake) == ["c1"]


def test_a_change_in_between_is_kept_and_ours_is_made_on_top_of_it(fake: FakeBucket) -> None:
    between = iter(["x1", "x2", "x3"])

    def somebody_else() -> None:
        others = decode_entries(fake.objects[KEY], of=KEY) if KEY in fake.objects else ()
        key = next(between, None)
        if key is not None:
            fake.objects[KEY] = encode_entries((*others, entry(key)))

    fake.before_write = somebody_else
    assert run(*ADD, "--file", FILE) == 0
    assert keys(fake) == ["x1", "x2", "x3", "c1"]
    assert [status for method, _, status in fake.asked if method == "PUT"] == [412, 412, 412, 200]


def test_others_who_are_always_faster_end_in_one_sentence_and_lose_nothing(
    fake: FakeBucket, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = iter(range(1000))
    fake.before_write = lambda: fake.objects.update({KEY: encode_entries((entry(f"x{next(numbers)}"),))})
    assert run(*ADD, "--file", FILE) == 1
    error = capsys.readouterr().err
    assert f"{FILE} was changed by others {list_object.ATTEMPTS} times" in error
    assert error.endswith("try again (lists_contended)\n")
    assert keys(fake) == [f"x{list_object.ATTEMPTS - 1}"]


def test_three_writers_at_once_lose_nothing(fake: FakeBucket) -> None:
    script = (
        "import os, sys\nfrom serving.list_bucket import open_address\nfrom serving.list_object import ListObjects\n"
        "from serving.lists import ListEntry\n"
        "place = ListObjects(open_address(sys.argv[1], region='eu-west-1', endpoint=sys.argv[2], environ=os.environ))\n"
        "for n in range(8):\n"
        "    place.add(ListEntry(entity='card', key=f'{sys.argv[3]}-{n}', list='block',"
        " reason='r', added_by='a', added_ms=1, expires_ms=2))\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", script, FILE, fake.endpoint, name], cwd=ROOT, env=aws_environment())
        for name in ("a", "b", "c")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert sorted(keys(fake)) == sorted(f"{name}-{n}" for name in "abc" for n in range(8))


def test_a_malformed_file_is_left_as_it_is(fake: FakeBucket, capsys: pytest.CaptureFixture[str]) -> None:
    fake.objects[KEY] = b"{"
    for arguments in (ADD, ("lists", "remove", *WHAT), ("lists", "show")):
        assert run(*arguments, "--file", FILE) == 1
        assert f"serving: {FILE} is no file of lists" in capsys.readouterr().err
    assert fake.objects == {KEY: b"{"}


def test_what_is_too_large_is_left_as_it_is(
    fake: FakeBucket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(list_object, "MAX_BYTES", 10)
    fake.objects[KEY] = encode_entries(())
    for arguments in (ADD, ("lists", "show")):
        assert run(*arguments, "--file", FILE) == 1
        assert f"serving: {FILE}: an object is larger than 10 bytes (invalid_list)" in capsys.readouterr().err
    assert keys(fake) == []


def test_a_file_that_is_not_there_is_shown_as_such_with_what_to_do(
    fake: FakeBucket, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("lists", "show", "--file", FILE) == 1
    assert f"lists add --file {FILE}" in capsys.readouterr().err
    assert run("lists", "show", "--file", FOLDER) == 0
    assert run("lists", "remove", "--file", FILE, *WHAT) == 1
    assert fake.objects == {}


def test_no_answer_no_credentials_and_no_address_end_with_one_sentence(
    fake: FakeBucket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*ADD, "--file", "s3://lists") == 1
    assert "neither s3://bucket/key nor s3://bucket/folder/ (invalid_setting)" in capsys.readouterr().err
    fake.fail = 403
    assert run(*ADD, "--file", FILE) == 1
    assert capsys.readouterr().err == ("serving: S3 answered 403 InternalError for bucket lists (s3_unavailable)\n")
    monkeypatch.setenv("TOLLGATE_AWS_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    assert run(*ADD, "--file", FILE) == 1
    assert "(ConnectionRefusedError) (s3_unavailable)" in capsys.readouterr().err
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert run(*ADD, "--file", FILE) == 1
    assert "(no_credentials)" in capsys.readouterr().err
