"""A registry keeps every version, moves its champion in one step, and remembers what it was told."""

import json
import multiprocessing
import threading
from pathlib import Path

import pytest

from fraud.bundle import open_bundle
from fraud.errors import CorruptBundle
from retraining.errors import NoSuchVersion, NothingToRollBack, RegistryBusy
from retraining.registry import Registry
from retraining.verdict import Check, Verdict
from tests.support.bundles import bundle_files

FINE = Verdict((Check("fine", passed=True, evidence="it is"),))
POOR = Verdict((Check("poor", passed=False, evidence="it is not"),))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


def promoted(registry: Registry, *seeds: int) -> list[str]:
    """Add and promote a bundle for each seed, one week after another."""
    versions = []
    for week, seed in enumerate(seeds):
        versions.append(registry.add(bundle_files(seed)).version)
        registry.promote(versions[-1], FINE, as_of_ms=week)
    return versions


def damage(registry: Registry, version: str) -> None:
    path = registry.folder / "versions" / version / "policy.json"
    path.write_bytes(path.read_bytes().replace(b"0.", b"1.", 1))


def test_an_empty_registry_has_no_champion_and_no_history(registry: Registry) -> None:
    assert registry.champion() is None
    assert registry.champion_version() is None
    assert registry.versions() == registry.served() == []
    assert registry.history() == []


def test_adding_twice_keeps_one_version(registry: Registry) -> None:
    one, other = registry.add(bundle_files(1)), registry.add(bundle_files(1))
    assert one.version == other.version
    assert registry.versions() == [one.version]
    assert registry.champion() is None


def test_promotion_is_what_the_link_shows(registry: Registry) -> None:
    first, second = promoted(registry, 1, 2)
    champion = registry.champion()
    assert champion is not None
    assert champion.version == registry.champion_version() == second
    assert registry.champion_link.readlink() == Path("versions") / second
    assert [event["version"] for event in registry.history()] == [first, second]
    assert registry.history()[1]["checks"] == [{"name": "fine", "passed": True, "evidence": "it is"}]


def test_a_refused_version_is_kept_and_written_down_and_not_served(registry: Registry) -> None:
    (first,) = promoted(registry, 1)
    worse = registry.add(bundle_files(2)).version
    registry.refuse(worse, POOR, as_of_ms=9)
    assert registry.champion_version() == first
    assert sorted(registry.versions()) == sorted([first, worse])
    assert registry.history()[-1] == {
        "event": "refused",
        "version": worse,
        "as_of_ms": 9,
        "checks": [{"name": "poor", "passed": False, "evidence": "it is not"}],
    }


@pytest.mark.parametrize("name", ["0123456789abcdef", "../versions", "a/b"])
def test_a_version_that_was_never_added_is_named_with_those_there_are(registry: Registry, name: str) -> None:
    (first,) = promoted(registry, 1)
    with pytest.raises(NoSuchVersion, match=f"kept are {first}"):
        registry.promote(name, FINE, as_of_ms=0)
    with pytest.raises(NoSuchVersion):
        registry.rollback(name)
    assert registry.champion_version() == first


def test_rollback_walks_back_champion_by_champion(registry: Registry) -> None:
    first, second, third = promoted(registry, 1, 2, 3)
    assert registry.rollback() == second
    assert registry.champion_version() == second
    assert registry.rollback() == first
    with pytest.raises(NothingToRollBack, match=f"no champion before {first}"):
        registry.rollback()
    assert registry.champion_version() == first
    assert [event["event"] for event in registry.history()] == ["promoted"] * 3 + ["rolled_back"] * 2
    assert registry.history()[-1]["from_version"] == second
    assert third in registry.versions()


def test_rollback_to_a_version_skips_those_between_and_a_later_promotion_goes_on_from_there(registry: Registry) -> None:
    first, second, third = promoted(registry, 1, 2, 3)
    assert registry.rollback(first) == first
    assert registry.served() == [first]
    with pytest.raises(NothingToRollBack, match="champion already"):
        registry.rollback(first)
    registry.promote(third, FINE, as_of_ms=7)
    assert registry.served() == [first, third]
    assert registry.rollback() == first
    assert second in registry.versions()


def test_rollback_to_a_damaged_version_leaves_the_champion(registry: Registry) -> None:
    first, second = promoted(registry, 1, 2)
    damage(registry, first)
    with pytest.raises(CorruptBundle, match=r"policy\.json has digest"):
        registry.rollback()
    assert registry.champion_version() == second


def test_a_damaged_champion_does_not_open_but_can_be_left(registry: Registry) -> None:
    first, second = promoted(registry, 1, 2)
    damage(registry, second)
    with pytest.raises(CorruptBundle, match=r"policy\.json has digest"):
        registry.champion()
    assert registry.champion_version() == second
    assert registry.rollback() == first
    champion = registry.champion()
    assert champion is not None
    assert champion.version == first


def test_a_link_that_leads_nowhere_is_a_corrupt_champion_and_not_none(registry: Registry) -> None:
    promoted(registry, 1)
    registry.champion_link.unlink()
    registry.champion_link.symlink_to(Path("versions") / "gone")
    with pytest.raises(CorruptBundle, match="does not exist"):
        registry.champion()


def test_a_bundle_under_another_versions_name_is_refused(registry: Registry) -> None:
    first, second = promoted(registry, 1, 2)
    place = registry.folder / "versions"
    (place / first).rename(place / "aside")
    (place / second).rename(place / first)
    with pytest.raises(CorruptBundle, match=f"{first} holds version {second}"):
        registry.promote(first, FINE, as_of_ms=0)


def test_a_damaged_version_is_not_added_over(registry: Registry) -> None:
    (first,) = promoted(registry, 1)
    damage(registry, first)
    with pytest.raises(CorruptBundle):
        registry.add(bundle_files(1))


def test_a_line_cut_short_costs_only_itself(registry: Registry) -> None:
    first, second = promoted(registry, 1, 2)
    path = registry.folder / "history.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert [event["version"] for event in registry.history()] == [first]
    registry.refuse(second, POOR, as_of_ms=3)
    assert [event["event"] for event in registry.history()] == ["promoted", "refused"]
    assert json.loads(path.read_text().splitlines()[-1])["as_of_ms"] == 3


def test_a_second_holder_of_the_lock_is_told_who_has_it(registry: Registry) -> None:
    with registry.locked():
        other = Registry(registry.folder)
        with (
            pytest.raises(RegistryBusy, match=r"process \d+ is at work in .*; nothing was started") as caught,
            other.locked(),
        ):
            pytest.fail("two held the lock")
        assert caught.value.retryable
    with registry.locked():
        pass


def _hold_and_die(folder: Path) -> None:
    lock = Registry(folder).locked()
    lock.__enter__()  # never given back: the process ends with it


def test_a_holder_that_died_holds_nothing(registry: Registry) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_hold_and_die, args=(registry.folder,))
    process.start()
    process.join()
    with registry.locked():
        assert (registry.folder / ".lock").exists()


def test_a_reader_sees_one_champion_or_the_other_and_never_half_of_either(registry: Registry) -> None:
    versions = promoted(registry, 1, 2)
    seen: set[str] = set()
    faults: list[Exception] = []
    done = threading.Event()

    def read() -> None:
        reader = Registry(registry.folder)
        while not done.is_set():
            try:
                champion = reader.champion()
                seen.add("none" if champion is None else champion.version)
            except Exception as error:  # noqa: BLE001  # whatever it is, the test must show it
                faults.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for week in range(100):
        registry.promote(versions[week % 2], FINE, as_of_ms=week)
        if week % 10 == 9:
            registry.rollback(versions[0])
    done.set()
    thread.join()
    assert faults == []
    assert seen <= set(versions)
    assert len(registry.history()) == 2 + 100 + 10
    assert open_bundle(bundle_files(1)).version == versions[0] == registry.champion_version()
