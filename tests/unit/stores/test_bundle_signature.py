import hashlib
import hmac
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fraud.bundle import MANIFEST, open_bundle
from fraud.errors import CorruptBundle, InvalidSetting
from serving.metrics import Metrics
from serving.reload import Reloader
from stores.bundle_files import point_to, read_bundle
from stores.bundle_signature import SIGNATURE, read_key, read_signed_bundle, sign_bundle
from tests.support.bundles import write_test_bundle
from tests.support.scorers import ROOT, payment, start_scorer

KEY = bytes(range(200, 232))


def test_signature_is_the_hmac_of_the_manifest_and_changes_no_version(tmp_path: Path) -> None:
    directory = write_test_bundle(tmp_path / "b")
    before = open_bundle(read_bundle(directory)).version
    said = sign_bundle(directory, KEY).read_text().strip()
    assert said == hmac.new(KEY, (directory / MANIFEST).read_bytes(), hashlib.sha256).hexdigest()
    assert sign_bundle(directory, KEY).read_text().strip() == said
    assert open_bundle(read_signed_bundle(directory, KEY)).version == before
    assert read_signed_bundle(directory, None) == read_bundle(directory)


def test_unsigned_foreign_and_altered_bundles_are_refused(tmp_path: Path) -> None:
    directory, other = write_test_bundle(tmp_path / "b"), write_test_bundle(tmp_path / "o", seed=2)
    with pytest.raises(CorruptBundle, match="is not signed: it holds no manifest"):
        read_signed_bundle(directory, KEY)
    sign_bundle(directory, bytes(32))
    with pytest.raises(CorruptBundle, match="not signed by the key"):
        read_signed_bundle(directory, KEY)
    sign_bundle(directory, KEY)
    shutil.copy(directory / SIGNATURE, other / SIGNATURE)
    with pytest.raises(CorruptBundle, match="not signed by the key"):
        read_signed_bundle(other, KEY)
    manifest = (directory / MANIFEST).read_bytes()
    for place in range(0, len(manifest), 97):
        flipped = bytearray(manifest)
        flipped[place] ^= 1
        (directory / MANIFEST).write_bytes(flipped)
        with pytest.raises(CorruptBundle, match="not signed by the key"):
            read_signed_bundle(directory, KEY)
    (directory / SIGNATURE).write_bytes(b"\xff\x00")
    with pytest.raises(CorruptBundle, match="not signed by the key"):
        read_signed_bundle(directory, KEY)


def test_key_is_read_to_its_last_byte_and_a_short_or_absent_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(KEY + b"\n")
    assert read_key(str(path)) == KEY
    assert read_key("") is None
    path.write_bytes(KEY[:31])
    with pytest.raises(InvalidSetting, match="has 31 bytes, fewer than 32"):
        read_key(str(path))
    with pytest.raises(InvalidSetting, match="cannot be read: No such file"):
        read_key(str(tmp_path / "absent"))


def test_reload_takes_signed_bundles_only(tmp_path: Path) -> None:
    link, taken, metrics = tmp_path / "live", [], Metrics()
    point_to(link, write_test_bundle(tmp_path / "b"))
    reloader = Reloader(
        link, serving="", take=lambda model: taken.append(model.bundle.version), metrics=metrics, key=KEY
    )
    reloader.look()
    assert (taken, metrics.bundles_refused.total()) == ([], 1)
    sign_bundle(tmp_path / "b", KEY)
    reloader.wake()
    reloader.look()
    assert len(taken) == 1


def test_scorer_with_a_key_serves_what_the_command_signed_and_nothing_else(tmp_path: Path) -> None:
    directory, path = write_test_bundle(tmp_path / "b"), tmp_path / "key"
    path.write_bytes(KEY)
    with (
        pytest.raises(RuntimeError, match=r"is not signed.*\(corrupt_bundle\)"),
        start_scorer(directory, 9, bundle_key_file=path),
    ):
        pass
    command = [sys.executable, "-m", "serving", "sign", "--model", str(directory), "--key-file", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(directory / SIGNATURE)
    with start_scorer(directory, 9, bundle_key_file=path) as scorer:
        assert scorer.decide(payment(1))["degraded"]
