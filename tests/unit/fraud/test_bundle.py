"""A bundle opens whole or not at all, and the refusal names the file."""

import hashlib
import json
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.bundle import FILES, MANIFEST, open_bundle, pack_bundle
from fraud.calibration import Calibration
from fraud.errors import CorruptBundle
from fraud.policy import Policy
from fraud.trees import FloatArray

NAMES = ("amount", "count", "hour")
CALIBRATION = Calibration(1.25, -0.5)
POLICY = Policy("p7", 0.2, 0.6, "review")
PLAN = {"project": "fraud", "views": [{"name": "card_velocity", "join_key": "card_id"}]}
PROVENANCE = {"seed": 7, "data": "sha256:0123", "window": ["2026-01-01", "2026-03-01"]}


def _train() -> tuple[bytes, FloatArray, list[float]]:
    rng = np.random.default_rng(7)
    table = rng.normal(size=(400, len(NAMES)))
    table[rng.random(table.shape) < 0.2] = np.nan
    label = (np.nan_to_num(table[:, 0]) + rng.normal(size=400) > 0.5).astype(np.float64)
    booster = xgb.train(
        {"objective": "binary:logistic", "max_depth": 3, "nthread": 1, "seed": 7},
        xgb.DMatrix(table, label=label, nthread=1),
        9,
    )
    rows = table[:20]
    margins: list[float] = booster.predict(xgb.DMatrix(rows, nthread=1), output_margin=True).tolist()
    return bytes(booster.save_raw("json")), rows, margins


MODEL, ROWS, MARGINS = _train()


def packed(**changes: Any) -> dict[str, bytes]:
    parts: dict[str, Any] = {
        "model_json": MODEL,
        "features": NAMES,
        "calibration": CALIBRATION,
        "policy": POLICY,
        "plan": PLAN,
        "check_rows": ROWS,
        "margins": MARGINS,
        "provenance": PROVENANCE,
    }
    return pack_bundle(**(parts | changes))


PACKED = packed()


def resealed(**contents: bytes) -> dict[str, bytes]:
    """A bundle whose digests are right although a file is not: ``calibration=...`` replaces ``calibration.json``."""
    files = {name: content for name, content in PACKED.items() if name != MANIFEST}
    files |= {f"{name}.json": content for name, content in contents.items()}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return {**files, MANIFEST: json.dumps({"format": 1, "sha256": digests}).encode()}


def test_bundle_holds_exactly_the_named_files() -> None:
    assert set(PACKED) == {*FILES, MANIFEST}
    assert all(json.loads(content) is not None for content in PACKED.values())


def test_opened_bundle_is_what_was_packed() -> None:
    bundle = open_bundle(PACKED)
    assert (bundle.features, bundle.calibration, bundle.policy) == (NAMES, CALIBRATION, POLICY)
    assert (bundle.plan, bundle.provenance) == (PLAN, PROVENANCE)
    scores = [bundle.score(row) for row in ROWS]
    assert scores == [CALIBRATION.score(margin) for margin in MARGINS]
    assert len(set(scores)) > 10


def test_version_is_the_digest_of_the_manifest() -> None:
    assert open_bundle(PACKED).version == hashlib.sha256(PACKED[MANIFEST]).hexdigest()[:16]


def test_equal_inputs_give_equal_bytes_and_version() -> None:
    model, rows, margins = _train()
    shuffled = dict(reversed(PROVENANCE.items()))
    again = packed(model_json=model, check_rows=rows, margins=margins, provenance=shuffled)
    assert again == PACKED
    assert open_bundle(again).version == open_bundle(PACKED).version


@pytest.mark.parametrize(
    "changes",
    [
        {"policy": Policy("p7", 0.2, 0.61, "review")},
        {"calibration": Calibration(1.25, -0.49)},
        {"features": ("amount", "count", "minute")},
        {"provenance": PROVENANCE | {"seed": 8}},
        {"plan": PLAN | {"project": "other"}},
        {"check_rows": ROWS[:19], "margins": MARGINS[:19]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_any_difference_is_another_version(changes: dict[str, Any]) -> None:
    assert open_bundle(packed(**changes)).version != open_bundle(PACKED).version


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_flipped_bit_in_a_file_is_refused_with_its_name(name: str, data: st.DataObject) -> None:
    content = bytearray(PACKED[name])
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CorruptBundle, match=f"^{name} has digest [0-9a-f]{{16}}, the manifest says [0-9a-f]{{16}}$"):
        open_bundle(PACKED | {name: bytes(content)})


def test_any_flipped_bit_in_the_manifest_is_refused() -> None:
    manifest = PACKED[MANIFEST]
    for place in range(len(manifest)):
        spoilt = bytearray(manifest)
        spoilt[place] ^= 1 << (place % 8)
        with pytest.raises(CorruptBundle):
            open_bundle(PACKED | {MANIFEST: bytes(spoilt)})


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("cut", [0, -1])
def test_truncated_file_is_refused_with_its_name(name: str, cut: int) -> None:
    with pytest.raises(CorruptBundle, match=f"^{name} has digest"):
        open_bundle(PACKED | {name: PACKED[name][:cut]})


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_missing_file_is_refused_with_its_name(name: str) -> None:
    with pytest.raises(CorruptBundle, match=f"^{name} is missing from the bundle$"):
        open_bundle({other: content for other, content in PACKED.items() if other != name})


def test_recorded_margin_that_the_runtime_does_not_give_is_refused() -> None:
    wrong = [*MARGINS]
    wrong[3] = float(np.nextafter(np.float32(wrong[3]), np.float32(np.inf)))
    with pytest.raises(CorruptBundle, match=f"recorded row 3 gives margin {MARGINS[3]!r}, not {wrong[3]!r}"):
        open_bundle(packed(margins=wrong))


def test_bundle_without_recorded_rows_is_refused() -> None:
    with pytest.raises(CorruptBundle, match="no rows to verify"):
        open_bundle(packed(check_rows=ROWS[:0], margins=[]))


@pytest.mark.parametrize("names", [NAMES[:2], (*NAMES, "minute"), ()])
def test_contract_of_another_width_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(CorruptBundle, match=f"model takes 3 inputs, the contract names {len(names)}"):
        open_bundle(packed(features=names))


@pytest.mark.parametrize("width", [0, 2, 4, 100_000])
def test_recorded_row_of_another_width_is_refused_not_walked(width: int) -> None:
    checks = json.dumps([{"row": [1.0] * width, "margin": MARGINS[0]}]).encode()
    with pytest.raises(CorruptBundle, match=f"recorded row 0 has {width} values, not 3"):
        open_bundle(resealed(checks=checks))


def test_unequal_rows_and_margins_are_not_packed() -> None:
    with pytest.raises(ValueError, match="zip"):
        packed(margins=MARGINS[:-1])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("calibration", b'{"slope": -1.0, "intercept": 0.0}'),
        ("calibration", b'{"slope": 1.0}'),
        ("policy", b'{"version": "p", "review_at": 0.9, "decline_at": 0.1}'),
        ("policy", b'{"version": "p", "review_at": 0.1, "decline_at": 0.2, "missing_outcome": "block"}'),
        ("policy", b"[]"),
        ("contract", b"{}"),
        ("contract", b'{"features": [1, 2, 3]}'),
        ("contract", b"\xff"),
        ("checks", b'[{"row": [1.0, 2.0, 3.0], "margin": null}]'),
        ("checks", b"{"),
        ("plan", b"[]"),
        ("provenance", b"null"),
        ("model", b"{}"),
        ("model", b"\x80\x04\x95"),
    ],
)
def test_sealed_but_malformed_file_is_refused(name: str, content: bytes) -> None:
    open_bundle(resealed())
    with pytest.raises(CorruptBundle):
        open_bundle(resealed(**{name: content}))


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"format": 1}',
        b'{"format": 1, "sha256": 5}',
        b'{"format": 1, "sha256": {}}',
        b'{"format": 1, "sha256": {"calibration.json": 5}}',
        b'{"format": 1, "sha256": {"calibration.json": null}}',
        PACKED[MANIFEST].replace(b'"format":1', b'"format":2'),
    ],
)
def test_manifest_that_is_none_is_refused(manifest: bytes) -> None:
    with pytest.raises(CorruptBundle):
        open_bundle(PACKED | {MANIFEST: manifest})
