"""The stream's kernels, warmed as the image warms them, serve another user from a folder that nobody can write to."""

import os
import sys
from pathlib import Path

import pytest

from tests.support.images import NOBODY, close_to_writing, count_kernels, files, other_user, two_folders

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(sys.executable)
WARM = ROOT / "infra" / "images" / "lambda" / "warm.py"


@pytest.mark.skipif(not other_user(), reason="only root with setpriv can become another user")
def test_another_user_compiles_nothing_where_nothing_can_be_written(tmp_path: Path) -> None:
    handler = tmp_path / "handler.py"
    handler.write_text("from streaming.handler import warm_up\nwarm_up()\n")
    with two_folders() as (cache, theirs):
        place = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        assert count_kernels(PYTHON, place, [WARM])["compiled"]
        close_to_writing(cache)
        before = files(cache)
        for _ in range(2):
            found = count_kernels(PYTHON, {**place, "TMPDIR": str(theirs)}, [WARM, handler], prefix=other_user())
            assert (found["user"], found["compiled"]) == (NOBODY, [])
            assert found["folder"].startswith(str(theirs))
            assert found["cached"] >= 4
        assert files(cache) == before
