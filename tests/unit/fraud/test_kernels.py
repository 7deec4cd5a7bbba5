"""The kernels' cache follows every source they are made from."""

import shutil
from pathlib import Path

from numba import config

from fraud.kernels import ROOM, sources_digest


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
