"""A folder appears whole or not at all, and is blamed only for what was written there."""

from pathlib import Path

import pytest

from training.errors import UnwritableOutput
from training.transaction_log import whole_folder


def test_what_cannot_be_read_is_not_blamed_on_the_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing, whole_folder(tmp_path / "out"):
        (tmp_path / "source").read_bytes()
    assert missing.value.filename == str(tmp_path / "source")
    with pytest.raises(UnwritableOutput, match="out cannot be written"), whole_folder(tmp_path / "out") as folder:
        (folder / "no such place" / "rows").write_bytes(b"")
    with pytest.raises(UnwritableOutput, match="out cannot be written"), whole_folder(tmp_path / "out"):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.glob("out*"))
