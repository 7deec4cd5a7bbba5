"""Dead letters are kept whole and found again."""

from pathlib import Path

from fraud.errors import InvalidTransaction
from streaming.arrivals import Arrival
from streaming.deadletters import DeadLetterFolder, dead_letter
from streaming.folders import DiskFolder
from tests.support.payments import START

DAY = 86_400_000


def poison(number: int, data: bytes, arrival_ms: int = START) -> Arrival:
    return Arrival(data, str(number), "card:c1", "shardId-000000000003", arrival_ms)


def test_bytes_reason_and_place_are_kept(tmp_path: Path) -> None:
    sink = DeadLetterFolder(DiskFolder(tmp_path))
    arrived = poison(7, bytes(range(256)))
    sink.keep([dead_letter(arrived, InvalidTransaction("schema", "2 is not 1"))])
    ((name, (letter,)),) = sink.read()
    assert name == "dead-letters/dt=2026-02-02/shardId-000000000003-7.jsonl"
    assert letter.arrival() == arrived
    assert (letter.code, letter.reason) == ("invalid_transaction", "schema: 2 is not 1")


def test_delivery_again_keeps_one_copy(tmp_path: Path) -> None:
    sink = DeadLetterFolder(DiskFolder(tmp_path))
    letter = dead_letter(poison(7, b"x"), InvalidTransaction("body", "no"))
    sink.keep([letter])
    sink.keep([letter])
    assert [letters for _, letters in sink.read()] == [[letter]]


def test_batch_over_midnight_is_kept_in_both_days(tmp_path: Path) -> None:
    sink = DeadLetterFolder(DiskFolder(tmp_path))
    error = InvalidTransaction("body", "no")
    sink.keep([dead_letter(poison(n, b"x", START + n * DAY), error) for n in (0, 1)])
    assert [name.split("/")[1] for name, _ in sink.read()] == ["dt=2026-02-02", "dt=2026-02-03"]


def test_replacing_with_nothing_removes(tmp_path: Path) -> None:
    sink = DeadLetterFolder(DiskFolder(tmp_path))
    sink.keep([dead_letter(poison(7, b"x"), InvalidTransaction("body", "no"))])
    ((name, _),) = sink.read()
    sink.replace(name, [])
    assert list(sink.read()) == []
