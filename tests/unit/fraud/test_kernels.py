"""The kernels' cache follows every source they are made from."""

import os
import shutil
from pathlib import Path

import pytest
from numba import config

from fraud.kernels import ROOM, cache_folder, sources_digest

NAME = f"kernels-{sources_digest(ROOM)}"


@pytest.fixture
def warmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a kernel in it that nothing can be written to."""
    folder = tmp_path / "image" / NAME
    (folder / "fraud_1").mkdir(parents=True)
    (folder / "fraud_1" / "ring.nbc").write_bytes(b"code")
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder and may(path, mode))
    return folder


def test_folder_asked_for_is_taken_when_it_is_ours(tmp_path: Path) -> None:
    found = cache_folder(str(tmp_path / "asked"), tmp_path / "tmp")
    assert found == tmp_path / "asked" / NAME
    assert found.stat().st_mode & 0o777 == 0o700


def test_kernels_that_cannot_be_written_to_are_copied_once(warmed: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    found = cache_folder(str(warmed.parent), temporary)
    assert found == temporary / f"tollgate-{os.getuid()}" / NAME
    assert (found / "fraud_1" / "ring.nbc").read_bytes() == b"code"
    (found / "fraud_1" / "ring.nbc").write_bytes(b"newer")
    assert cache_folder(str(warmed.parent), temporary) == found
    assert (found / "fraud_1" / "ring.nbc").read_bytes() == b"newer"
    assert [path.name for path in found.parent.iterdir()] == [NAME]


def test_kernels_that_others_could_have_written_are_not_taken(warmed: Path, tmp_path: Path) -> None:
    warmed.chmod(0o777)
    found = cache_folder(str(warmed.parent), tmp_path / "tmp")
    assert list(found.iterdir()) == []


def test_own_temporary_folder_that_others_may_write_is_not_taken(warmed: Path, tmp_path: Path) -> None:
    planted = tmp_path / "tmp" / f"tollgate-{os.getuid()}" / NAME
    planted.mkdir(parents=True)
    planted.chmod(0o777)
    found = cache_folder(str(warmed.parent), tmp_path / "tmp")
    assert found not in (planted, warmed)
    assert found.stat().st_mode & 0o777 == 0o700


def test_changing_any_source_changes_the_cache(tmp_path: Path) -> None:
    room = tmp_path / "fraud"
    shutil.copytree(ROOM, room, ignore=shutil.ignore_patterns("__pycache__"))
    before = sources_digest(room)
    windows = room / "windows.py"
    windows.write_text(windows.read_text() + "\n# one more window\n")
    assert sources_digest(room) != before == sources_digest(ROOM)


def test_kernels_are_cached_under_the_digest() -> None:
    assert str(vars(config)["CACHE_DIR"]).endswith(sources_digest(ROOM))


def test_every_kernel_is_compiled_by_the_one_decorator() -> None:
    sources = [
        p for p in ROOM.parent.glob("*/*.py") if ".venv" not in p.parts and p.parent.name not in ("tests", "bench")
    ]
    direct = [p for p in sources if "njit" in p.read_text() and p != ROOM / "kernels.py"]
    assert direct == []
