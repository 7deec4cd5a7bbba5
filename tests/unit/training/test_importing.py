"""An import is chosen by the name of its format."""

from pathlib import Path

import pytest

from training.errors import UnknownFormat, UnreadableSource
from training.importing import import_transactions


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownFormat, match=r"'paysim' is unknown; known: handbook"):
        import_transactions("paysim", tmp_path, tmp_path / "out", label_delay_ms=0, progress=lambda *_: None)


def test_the_chosen_format_gets_source_and_delay(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSource, match=r"absent\.parquet"):
        import_transactions(
            "handbook", tmp_path / "absent.parquet", tmp_path / "out", label_delay_ms=0, progress=lambda *_: None
        )
    with pytest.raises(UnreadableSource, match="-1 ms is negative"):
        import_transactions("handbook", tmp_path, tmp_path / "out", label_delay_ms=-1, progress=lambda *_: None)
