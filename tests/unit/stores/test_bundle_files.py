from pathlib import Path

import pytest

from fraud.bundle import FILES, MANIFEST
from fraud.errors import CorruptBundle
from stores.bundle_files import point_to, read_bundle, read_manifest, write_bundle

FILES_OF_A: dict[str, bytes] = {name: f"{name} of a".encode() for name in (*FILES, MANIFEST)}
FILES_OF_B: dict[str, bytes] = {name: f"{name} of b".encode() for name in (*FILES, MANIFEST)}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_bundle(write_bundle(FILES_OF_A, tmp_path / "deep" / "a")) == FILES_OF_A


def test_writing_the_same_again_changes_nothing_and_another_is_refused(tmp_path: Path) -> None:
    directory = write_bundle(FILES_OF_A, tmp_path / "a")
    assert write_bundle(FILES_OF_A, directory) == directory
    with pytest.raises(CorruptBundle, match="already holds"):
        write_bundle(FILES_OF_B, directory)
    assert read_bundle(directory) == FILES_OF_A
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_bundle({**FILES_OF_A, "no/such/folder": b""}, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_swapped_and_followed(tmp_path: Path) -> None:
    link = tmp_path / "current"
    point_to(link, write_bundle(FILES_OF_A, tmp_path / "a"))
    assert read_manifest(link) == FILES_OF_A[MANIFEST]
    point_to(link, write_bundle(FILES_OF_B, tmp_path / "b"))
    assert read_bundle(link) == FILES_OF_B


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (write_bundle(FILES_OF_A, tmp_path / "a") / name).unlink()
    with pytest.raises(CorruptBundle, match=name):
        read_bundle(tmp_path / "a")


def test_a_missing_directory_is_named_and_has_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(CorruptBundle, match="nowhere does not exist"):
        read_bundle(tmp_path / "nowhere")
    assert read_manifest(tmp_path / "nowhere") is None
