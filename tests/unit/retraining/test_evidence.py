"""What others measured becomes a check: clean, not clean, or not there."""

import json
from pathlib import Path

import pytest

from retraining.evidence import leaks_checked, parity_checked

CLEAN = {"compared": 500, "mismatched": 0, "mismatches": {}}


def written(folder: Path, found: object) -> Path:
    path = folder / "parity.json"
    path.write_text(json.dumps(found), encoding="utf-8")
    return path


def test_a_clean_certificate_passes(tmp_path: Path) -> None:
    check = parity_checked(written(tmp_path, CLEAN))
    assert check.passed
    assert check.evidence == "0 of 500 served vectors differ from what the log says"


def test_mismatches_are_counted_and_the_worst_features_named(tmp_path: Path) -> None:
    table = {"a": {"count": 1}, "b": {"count": 7}}
    check = parity_checked(written(tmp_path, CLEAN | {"mismatched": 8, "mismatches": table}))
    assert not check.passed
    assert check.evidence == "8 of 500 served vectors differ from what the log says, most in b, a"


@pytest.mark.parametrize("found", [[], {}, {"compared": 5}, {"compared": "many", "mismatched": 0, "mismatches": {}}])
def test_what_is_no_certificate_certifies_nothing(tmp_path: Path, found: object) -> None:
    check = parity_checked(written(tmp_path, found))
    assert not check.passed
    assert "is no parity certificate" in check.evidence


def test_a_certificate_that_is_not_there_or_compared_nothing_certifies_nothing(tmp_path: Path) -> None:
    assert not parity_checked(tmp_path / "none.json").passed
    assert not parity_checked(written(tmp_path, CLEAN | {"compared": 0})).passed


def test_an_audit_of_no_row_proves_nothing() -> None:
    assert not leaks_checked({"probes": 0, "leaks": [], "untested": []}).passed
    assert leaks_checked({"probes": 9, "leaks": [], "untested": []}).passed
