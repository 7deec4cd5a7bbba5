"""The stream's kernels, warmed as the image warms them, serve another user from a folder that nobody can write to."""

import os
import sys
from pathlib import Path

import pytest

from tests.support.images import NOBODY, close_to_writing, count_kernels, files, other_user

ROOT = Path(__file__).resolve().parents[2]
WARM = ROOT / "infra" / "images" / "lambda" / "warm.py"


@pytest.mark.skipif(not other_user(), reason="only root with setpriv can become another user")
def test_another_user_compiles_nothing_where_nothing_can_be_written(tmp_path: Path) -> None:
    cache, theirs = tmp_path / "numba", tmp_path / "tmp"
    theirs.mkdir()
    os.chown(theirs, NOBODY, NOBODY)
    handler = tmp_path / "handler.py"
    handler.write_text("from streaming.handler import warm_up\nwarm_up()\n")
    place = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    first = count_kernels(Path(sys.executable), place, [WARM])
    assert first["compiled"]
    close_to_writing(cache)
    before = files(cache)
    for _ in range(2):
        found = count_kernels(
            Path(sys.executable), {**place, "TMPDIR": str(theirs)}, [WARM, handler], prefix=other_user()
        )
        assert (found["user"], found["compiled"]) == (NOBODY, [])
        assert str(found["folder"]).startswith(str(theirs))
        assert found["cached"] > 5
    assert files(cache) == before
